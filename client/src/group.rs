//! Groups: what their members say to each other through a relay that can tell neither who they
//! are, nor that two cells are of one group.
//!
//! | step | module |
//! |---|---|
//! | what a member is given: the `tocyn:group:` string | [`invite`] |
//! | what a member says, signed, with what it answers to | [`message`] |
//! | in which order messages are shown | [`order`] |
//! | a message in parts that fit a cell each | [`parts`] |
//! | a part in a cell that looks like any other, and how to find it again | [`cell`] |

pub mod cell;
pub mod invite;
pub mod message;
pub mod order;
pub mod parts;

#[cfg(test)]
mod tests;

use std::fmt;

use hkdf::Hkdf;
use rand_core::CryptoRng;
use sha2::Sha512;
use tocyn_protocol::log::note::VerifierKey;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of a group's secret.
pub const SECRET_BYTES: usize = 32;
/// HKDF salt of what follows from a group's secret.
const SALT: &[u8] = b"tocyn/v1 group";

/// What members share, and nobody else has. Whoever has it can read all that was ever said.
/// Zeroized when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct GroupSecret([u8; SECRET_BYTES]);

impl GroupSecret {
    /// A fresh one.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut secret = Self([0; SECRET_BYTES]);
        rng.fill_bytes(&mut secret.0);
        secret
    }

    /// One that was kept, or came in an invite.
    pub fn from_bytes(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes, to be kept.
    pub fn as_bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// `HKDF-SHA512(secret, salt, what || 0x00 || the relay's verifier key)`: other keys at each relay.
    fn derive(&self, what: &str, relay: &VerifierKey) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        let relay = relay.to_string();
        Hkdf::<Sha512>::new(Some(SALT), &self.0)
            .expand_multi_info(&[what.as_bytes(), &[0], relay.as_bytes()], &mut *key)
            .expect("32 bytes are not too many");
        key
    }

    /// Which group: signed with every message, so that what was said in one group cannot be
    /// repeated in another. Known to members only.
    pub fn id(&self, relay: &VerifierKey) -> [u8; 32] {
        *self.derive("id", relay)
    }
}

impl fmt::Debug for GroupSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupSecret(..)")
    }
}
