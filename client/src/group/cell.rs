//! Cells of a group. To all others they are random bytes, each cell like any other.
//!
//! ```text
//! nonce   24  random
//! header  16  HChaCha20(header key, nonce[0..16])[0..16]
//! body        XChaCha20-Poly1305(body key, nonce), with a tag of 16 bytes
//! ```
//! The header is all that a reader computes for a cell of others: one permutation.

use std::fmt;

use chacha20::hchacha;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use rand_core::CryptoRng;
use tocyn_protocol::log::note::VerifierKey;
use zeroize::Zeroizing;

use super::GroupSecret;

const NONCE_BYTES: usize = 24;
/// The part of the nonce that the header follows from, as it is HChaCha20's input.
const SALT_BYTES: usize = 16;
const HEADER_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
/// Bytes of a cell that are not plaintext.
pub const OVERHEAD_BYTES: usize = NONCE_BYTES + HEADER_BYTES + TAG_BYTES;

/// The keys to the cells of one group at one relay. Zeroized when dropped.
pub struct CellKeys {
    header: Zeroizing<[u8; 32]>,
    body: XChaCha20Poly1305,
    /// The relay's verifier key: a cell is good at this relay only.
    relay: String,
}

impl CellKeys {
    /// They follow from the secret and the relay.
    pub fn new(secret: &GroupSecret, relay: &VerifierKey) -> Self {
        let body = secret.derive("cell body", relay);
        Self {
            header: secret.derive("cell header", relay),
            body: XChaCha20Poly1305::new(&Key::from(*body)),
            relay: relay.to_string(),
        }
    }

    fn header(&self, nonce: &[u8]) -> u128 {
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&nonce[..SALT_BYTES]);
        let out = hchacha::<chacha20::R20>(&(*self.header).into(), &salt.into());
        let (header, _) = out.0.split_first_chunk().expect("it has 32 bytes");
        u128::from_le_bytes(*header)
    }

    /// Whether the cell says that it is of this group. Others can say so only by repeating the
    /// first 40 bytes of one that is.
    pub fn claims(&self, cell: &[u8]) -> bool {
        let Some((nonce, rest)) = cell.split_first_chunk::<NONCE_BYTES>() else { return false };
        let Some((header, _)) = rest.split_first_chunk() else { return false };
        u128::from_le_bytes(*header) == self.header(nonce)
    }

    /// A cell with this plaintext, which sets its size. Never twice the same.
    pub fn seal(&self, plaintext: &[u8], rng: &mut impl CryptoRng) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        let header = self.header(&nonce).to_le_bytes();
        let payload = Payload { msg: plaintext, aad: &self.beside(&header) };
        let body = self.body.encrypt(&XNonce::from(nonce), payload);
        let body = body.expect("a cell is far below the cipher's limit");
        [&nonce[..], &header, &body].concat()
    }

    /// The plaintext of a cell that [claims](Self::claims) to be of this group; None if it was made
    /// or changed by someone else.
    pub fn open(&self, cell: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, rest) = cell.split_first_chunk::<NONCE_BYTES>()?;
        let (header, body) = rest.split_first_chunk::<HEADER_BYTES>()?;
        let payload = Payload { msg: body, aad: &self.beside(header) };
        self.body.decrypt(&XNonce::from(*nonce), payload).ok().map(Zeroizing::new)
    }

    /// What is sealed with the body: the header, and the relay.
    fn beside(&self, header: &[u8; HEADER_BYTES]) -> Vec<u8> {
        [&header[..], b"tocyn/v1 cell\0", self.relay.as_bytes()].concat()
    }
}

impl fmt::Debug for CellKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CellKeys").field("relay", &self.relay).finish_non_exhaustive()
    }
}
