//! The pairing file that issuer and relay share, and the epoch keys that both derive from it
//! with no traffic between them.

use std::fmt;

use hkdf::Hkdf;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::Sha512;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::challenge::TokenChallenge;
use crate::codec::put_u16_bytes;
use crate::keys::KeyPair;
#[cfg(feature = "pow")]
use crate::suite::POW_SALT;
use crate::suite::{EPOCH_KEY_SALT, GRANT_SALT, KEY_INFO, PAIRING_SECRET_BYTES};

/// Number of a key period, counted from the pairing's genesis.
pub type Epoch = u64;

/// The version of the pairing file that this crate reads and writes.
pub const PAIRING_VERSION: u32 = 1;
/// How long the issuer still answers under the last epoch's key, for requests in flight.
pub const ISSUING_GRACE_SECONDS: u64 = 60;
/// How far the relay's clock may be behind the issuer's.
pub const CLOCK_TOLERANCE_SECONDS: u64 = 60;
/// The shortest epoch: below this nobody could spend what they bought.
pub const MIN_EPOCH_SECONDS: u64 = 1;
/// The longest epoch, ten years.
pub const MAX_EPOCH_SECONDS: u64 = 10 * 366 * 86_400;
/// The longest issuer or relay name in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// What is wrong with a pairing, or with a time asked of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PairingError {
    /// A version that this program does not know.
    #[error("version is {0}, but this program knows version 1 only; use the program that wrote it")]
    Version(u32),
    /// An unusable name.
    #[error("{0} must be 1 to 255 letters, digits, '.', '-', '_' or ':'")]
    Name(&'static str),
    /// An epoch length out of range.
    #[error("epoch_seconds is {0}; it must be from 1 second to ten years")]
    EpochSeconds(u64),
    /// The clock shows a time before the pairing was made.
    #[error(
        "the clock shows {now}, before the pairing's genesis at {genesis}; set the clock right"
    )]
    BeforeGenesis {
        /// Unix seconds asked for.
        now: u64,
        /// Unix seconds of the pairing's start.
        genesis: u64,
    },
}

/// 32 random bytes that only the issuer and its relay know. Wiped on drop, never shown.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
struct Secret([u8; PAIRING_SECRET_BYTES]);

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(hex::encode(self.0)))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let mut secret = Self([0; PAIRING_SECRET_BYTES]);
        // The cause is not passed on: it would quote characters of the secret.
        hex::decode_to_slice(text.as_bytes(), &mut secret.0)
            .map_err(|_| serde::de::Error::custom("secret must be 64 hexadecimal digits"))?;
        Ok(secret)
    }
}

/// What issuer and relay share. As TOML this is the pairing file: keep it at mode 0600.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pairing {
    version: u32,
    issuer_name: String,
    relay_name: String,
    secret: Secret,
    genesis: u64,
    epoch_seconds: u64,
}

/// Whether this may be the name of an issuer or relay: 1 to 255 letters, digits, `.`, `-`, `_`, `:`.
pub fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_:".contains(&b);
    (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(allowed)
}

impl fmt::Debug for Pairing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pairing")
            .field("issuer_name", &self.issuer_name)
            .field("relay_name", &self.relay_name)
            .field("genesis", &self.genesis)
            .field("epoch_seconds", &self.epoch_seconds)
            .finish_non_exhaustive()
    }
}

impl Pairing {
    /// A new pairing with a random secret that starts at `genesis` (unix seconds).
    pub fn generate(
        issuer_name: &str,
        relay_name: &str,
        genesis: u64,
        epoch_seconds: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, PairingError> {
        let mut secret = Secret([0; PAIRING_SECRET_BYTES]);
        rng.fill_bytes(&mut secret.0);
        let pairing = Self {
            version: PAIRING_VERSION,
            issuer_name: issuer_name.to_owned(),
            relay_name: relay_name.to_owned(),
            secret,
            genesis,
            epoch_seconds,
        };
        pairing.validate()?;
        Ok(pairing)
    }

    /// Checks what the file's form does not: call it on every pairing that was read.
    pub fn validate(&self) -> Result<(), PairingError> {
        if self.version != PAIRING_VERSION {
            return Err(PairingError::Version(self.version));
        }
        for (what, name) in [("issuer_name", &self.issuer_name), ("relay_name", &self.relay_name)] {
            if !is_name(name) {
                return Err(PairingError::Name(what));
            }
        }
        if !(MIN_EPOCH_SECONDS..=MAX_EPOCH_SECONDS).contains(&self.epoch_seconds) {
            return Err(PairingError::EpochSeconds(self.epoch_seconds));
        }
        Ok(())
    }

    /// The issuer's name, as in the challenge.
    pub fn issuer_name(&self) -> &str {
        &self.issuer_name
    }

    /// The relay's name, the challenge's `origin_info`.
    pub fn relay_name(&self) -> &str {
        &self.relay_name
    }

    /// Start of epoch 0 in unix seconds.
    pub fn genesis(&self) -> u64 {
        self.genesis
    }

    /// Length of an epoch in seconds.
    pub fn epoch_seconds(&self) -> u64 {
        self.epoch_seconds
    }

    /// The epoch at `now` (unix seconds): floor((now - genesis) / epoch_seconds).
    pub fn epoch_at(&self, now: u64) -> Result<Epoch, PairingError> {
        match now.checked_sub(self.genesis) {
            Some(age) => Ok(age / self.epoch_seconds),
            None => Err(PairingError::BeforeGenesis { now, genesis: self.genesis }),
        }
    }

    /// First second of an epoch, in unix seconds.
    pub fn epoch_start(&self, epoch: Epoch) -> u64 {
        self.genesis.saturating_add(epoch.saturating_mul(self.epoch_seconds))
    }

    /// First second after an epoch, in unix seconds.
    pub fn epoch_end(&self, epoch: Epoch) -> u64 {
        self.epoch_start(epoch.saturating_add(1))
    }

    /// The epochs that the issuer answers under: the current one first, and for the first
    /// 60 seconds the one before.
    pub fn issuing_epochs(&self, now: u64) -> Result<Vec<Epoch>, PairingError> {
        let current = self.epoch_at(now)?;
        let in_grace = now - self.epoch_start(current) < ISSUING_GRACE_SECONDS;
        Ok([Some(current), current.checked_sub(1).filter(|_| in_grace)]
            .into_iter()
            .flatten()
            .collect())
    }

    /// The epochs whose tokens the relay takes, in rising order: the last one, the current one,
    /// and in the current one's last 60 seconds the next.
    pub fn redeemable_epochs(&self, now: u64) -> Result<Vec<Epoch>, PairingError> {
        let current = self.epoch_at(now)?;
        let next = self.epoch_at(now.saturating_add(CLOCK_TOLERANCE_SECONDS))?;
        let next = next.min(current.saturating_add(1));
        Ok((current.saturating_sub(1)..=next).collect())
    }

    /// The key pair of an epoch: HKDF-SHA512 over the secret, both names and the number, then
    /// `DeriveKeyPair(seed, "PrivacyPass")`.
    pub fn key_pair(&self, epoch: Epoch) -> KeyPair {
        let mut info = Vec::new();
        put_u16_bytes(&mut info, self.issuer_name.as_bytes());
        put_u16_bytes(&mut info, self.relay_name.as_bytes());
        info.extend_from_slice(&epoch.to_be_bytes());
        let mut seed = Zeroizing::new([0; 32]);
        self.derive(EPOCH_KEY_SALT, &info, seed.as_mut());
        KeyPair::derive(&seed, KEY_INFO)
    }

    /// What makes a challenge of proof of work this issuer's (see `pow`): 16 bytes.
    #[cfg(feature = "pow")]
    pub(crate) fn pow_mac(&self, issued_at: u64, effort: u32) -> [u8; 16] {
        let info = [&issued_at.to_be_bytes()[..], &effort.to_be_bytes()].concat();
        let mut mac = [0; 16];
        self.derive(POW_SALT, &info, &mut mac);
        mac
    }

    /// The 16 bytes of the voucher code that a service is given which asks for one under `id`; the
    /// same ones each time, so that a lost answer can be asked for again. `round` counts from 0
    /// while bytes that are no code come out.
    pub fn grant_code(&self, id: &[u8], round: u8) -> Zeroizing<[u8; 16]> {
        let mut code = Zeroizing::new([0; 16]);
        self.derive(GRANT_SALT, &[&[round], id].concat(), code.as_mut());
        code
    }

    fn derive(&self, salt: &[u8], info: &[u8], out: &mut [u8]) {
        Hkdf::<Sha512>::new(Some(salt), &self.secret.0)
            .expand(info, out)
            .expect("it is short enough for HKDF");
    }

    /// The one challenge that all tokens of this pair share.
    pub fn challenge(&self) -> TokenChallenge {
        TokenChallenge::new(&self.issuer_name, None, &self.relay_name)
            .expect("the names were checked")
    }
}
