//! The pairing file that issuer and origin share, and the epoch keys that both derive from it
//! with no traffic between them.

use std::fmt;

use hkdf::Hkdf;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::Sha512;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::challenge::TokenChallenge;
use crate::codec::put_u16_bytes;
use crate::keys::{KeyPair, TokenKeyId};
use crate::schedule::{
    MAX_EPOCH_SECONDS, MAX_EPOCHS, MAX_GENESIS, MIN_EPOCH_SECONDS, Schedule, ScheduleError,
};
use crate::suite::{EPOCH_KEY_SALT, KEY_INFO, PAIRING_SECRET_BYTES};

pub use crate::schedule::Epoch;

/// The version of the pairing file that this crate reads and writes.
pub const PAIRING_VERSION: u32 = 1;
/// The longest name of an issuer or origin, in bytes.
pub const MAX_NAME_BYTES: usize = 255;
/// The most pairings that one names as replaced.
const MAX_REPLACED: usize = 64;

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
    /// A start that is out of range.
    #[error("genesis is {0}, which is no time that a clock can show")]
    Genesis(u64),
    /// A planned renewal that names an impossible epoch.
    #[error("previous.below is {0}; it must be from 1 to 65535")]
    Below(u64),
    /// A planned renewal while the one before it is not over.
    #[error(
        "the renewal before this one is not over: another one can be planned from epoch {from} on; \
         after a leak, renew at once, without --planned"
    )]
    Unfinished {
        /// The first epoch in which another one can be planned.
        from: Epoch,
    },
    /// A planned renewal of a pairing that has no epochs left.
    #[error("the pairing has no epochs left for another key; renew it without --planned")]
    NoEpochs,
    /// No epoch has a key at this time.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
}

/// 32 random bytes that only the issuer and its origin know. Wiped on drop, never shown.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
struct Secret([u8; PAIRING_SECRET_BYTES]);

impl Secret {
    fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut secret = Self([0; PAIRING_SECRET_BYTES]);
        rng.fill_bytes(&mut secret.0);
        secret
    }
}

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

/// Tells pairings apart, and is no secret: 32 bytes, 64 hexadecimal digits in the file. A planned
/// renewal keeps it, since the spent set goes on; any other renewal has a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PairingId(pub [u8; 32]);

impl fmt::Display for PairingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for PairingId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PairingId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (text, mut id) = (String::deserialize(deserializer)?, [0; 32]);
        hex::decode_to_slice(text, &mut id)
            .map_err(|_| serde::de::Error::custom("id must be 64 hexadecimal digits"))?;
        Ok(Self(id))
    }
}

/// The secret that a planned renewal replaces.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Previous {
    /// It has the keys of the epochs below this one.
    below: Epoch,
    secret: Secret,
}

/// What issuer and origin share. As TOML this is the pairing file: keep it at mode 0600.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pairing {
    version: u32,
    id: PairingId,
    issuer_name: String,
    origin_name: String,
    genesis: u64,
    epoch_seconds: u64,
    secret: Secret,
    /// TOML wants this before the table that follows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    replaces: Vec<PairingId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Previous>,
}

/// Whether this may be the name of an issuer or origin: 1 to 255 letters, digits, `.`, `-`, `_`, `:`.
pub fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_:".contains(&b);
    (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(allowed)
}

impl fmt::Debug for Pairing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pairing")
            .field("issuer_name", &self.issuer_name)
            .field("origin_name", &self.origin_name)
            .field("genesis", &self.genesis)
            .field("epoch_seconds", &self.epoch_seconds)
            .finish_non_exhaustive()
    }
}

impl Pairing {
    /// A new pairing with a random secret that starts at `genesis` (unix seconds).
    pub fn generate(
        issuer_name: &str,
        origin_name: &str,
        genesis: u64,
        epoch_seconds: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, PairingError> {
        let mut pairing = Self {
            version: PAIRING_VERSION,
            id: PairingId([0; 32]),
            issuer_name: issuer_name.to_owned(),
            origin_name: origin_name.to_owned(),
            genesis,
            epoch_seconds,
            secret: Secret::generate(rng),
            replaces: Vec::new(),
            previous: None,
        };
        rng.fill_bytes(&mut pairing.id.0);
        pairing.validate()?;
        Ok(pairing)
    }

    /// A new pairing for the same names and epoch length that starts at `genesis` (unix seconds) and
    /// [replaces](Self::replaces) this one.
    pub fn successor(&self, genesis: u64, rng: &mut impl CryptoRng) -> Result<Self, PairingError> {
        let (issuer, origin) = (&self.issuer_name, &self.origin_name);
        let fresh = Self::generate(issuer, origin, genesis, self.epoch_seconds, rng)?;
        let replaced = std::iter::once(self.id).chain(self.replaces.iter().copied());
        Ok(fresh.replacing(replaced))
    }

    /// Adds pairings to those that it [replaces](Self::replaces).
    pub fn replacing(mut self, ids: impl IntoIterator<Item = PairingId>) -> Self {
        for id in ids {
            if id != self.id && !self.replaces.contains(&id) && self.replaces.len() < MAX_REPLACED {
                self.replaces.push(id);
            }
        }
        self
    }

    /// The pairings whose charges and spent tokens are forgotten where this one takes their place,
    /// the newest first, at most 64. A database that is tied to any other one is not this pairing's.
    pub fn replaces(&self) -> &[PairingId] {
        &self.replaces
    }

    /// The same pairing with a new secret from a later epoch on, so that no token becomes worthless
    /// and both sides have time to install it. That is the next epoch, or the one after if less than
    /// a tenth of an epoch is left. The keys of the next ten years are new.
    pub fn renewed(&self, now: u64, rng: &mut impl CryptoRng) -> Result<Self, PairingError> {
        let schedule = self.schedule();
        let current = schedule.epoch_at(now)?;
        if let Some(previous) = self.previous.as_ref().filter(|old| current <= old.below) {
            return Err(PairingError::Unfinished { from: previous.below + 1 });
        }
        let left = schedule.end(current).saturating_sub(now);
        let later = if left.saturating_mul(10) >= self.epoch_seconds { 1 } else { 2 };
        let below = current.saturating_add(later);
        if below >= MAX_EPOCHS {
            return Err(PairingError::NoEpochs);
        }
        let previous = Some(Previous { below, secret: self.secret.clone() });
        Ok(Self { secret: Secret::generate(rng), previous, ..self.clone() })
    }

    /// Checks what the file's form does not: call it on every pairing that was read.
    pub fn validate(&self) -> Result<(), PairingError> {
        if self.version != PAIRING_VERSION {
            return Err(PairingError::Version(self.version));
        }
        for (what, name) in [("issuer_name", &self.issuer_name), ("origin_name", &self.origin_name)]
        {
            if !is_name(name) {
                return Err(PairingError::Name(what));
            }
        }
        if !(MIN_EPOCH_SECONDS..=MAX_EPOCH_SECONDS).contains(&self.epoch_seconds) {
            return Err(PairingError::EpochSeconds(self.epoch_seconds));
        }
        if self.genesis > MAX_GENESIS {
            return Err(PairingError::Genesis(self.genesis));
        }
        match self.renewed_at() {
            Some(below) if !(1..MAX_EPOCHS).contains(&below) => Err(PairingError::Below(below)),
            _ => Ok(()),
        }
    }

    /// The issuer's name, as in the challenge.
    pub fn issuer_name(&self) -> &str {
        &self.issuer_name
    }

    /// The origin's name, the challenge's `origin_info`.
    pub fn origin_name(&self) -> &str {
        &self.origin_name
    }

    /// Tells it from others.
    pub fn id(&self) -> PairingId {
        self.id
    }

    /// The first epoch of the newest secret, where a planned renewal has brought one.
    pub fn renewed_at(&self) -> Option<Epoch> {
        self.previous.as_ref().map(|previous| previous.below)
    }

    /// Tells its newest secret from others, and is no secret: the id of the key of epoch 0 that would
    /// come from it, 32 bytes. A planned renewal has another one.
    pub fn keys_id(&self) -> TokenKeyId {
        self.derive_key_pair(&self.secret, 0).public().token_key_id()
    }

    /// The same of the secret that a planned renewal has replaced.
    pub fn previous_keys_id(&self) -> Option<TokenKeyId> {
        let previous = self.previous.as_ref()?;
        Some(self.derive_key_pair(&previous.secret, 0).public().token_key_id())
    }

    /// Start, length and number of its epochs.
    pub fn schedule(&self) -> Schedule {
        let first = self.renewed_at().unwrap_or(0);
        Schedule {
            genesis: self.genesis,
            epoch_seconds: self.epoch_seconds,
            count: Schedule::count_for(self.epoch_seconds, first),
        }
    }

    /// The key pair of an epoch: HKDF-SHA512 over the secret, both names, the number and a round,
    /// then `DeriveKeyPair(seed, "PrivacyPass")`. The round is the first from 0 on whose truncated
    /// key id is odd for odd epochs and even for even ones: a token request names its key by that
    /// byte alone (RFC 9578), and the keys of neighbours are in use at the same time.
    pub fn key_pair(&self, epoch: Epoch) -> KeyPair {
        match &self.previous {
            Some(previous) if epoch < previous.below => {
                self.derive_key_pair(&previous.secret, epoch)
            }
            _ => self.derive_key_pair(&self.secret, epoch),
        }
    }

    fn derive_key_pair(&self, secret: &Secret, epoch: Epoch) -> KeyPair {
        let mut info = Vec::new();
        put_u16_bytes(&mut info, self.issuer_name.as_bytes());
        put_u16_bytes(&mut info, self.origin_name.as_bytes());
        info.extend_from_slice(&epoch.to_be_bytes());
        let mut seed = Zeroizing::new([0; 32]);
        let of_round = |round: u8| {
            derive(secret, EPOCH_KEY_SALT, &[&info[..], &[round]].concat(), seed.as_mut());
            KeyPair::derive(&seed, KEY_INFO)
        };
        let fits =
            |pair: &KeyPair| u64::from(pair.public().token_key_id().truncated()) % 2 == epoch % 2;
        (0..=u8::MAX).map(of_round).find(fits).expect("one of 256 rounds fits")
    }

    /// The one challenge that all tokens of this pair share.
    pub fn challenge(&self) -> TokenChallenge {
        TokenChallenge::new(&self.issuer_name, None, &self.origin_name)
            .expect("the names were checked")
    }
}

fn derive(secret: &Secret, salt: &[u8], info: &[u8], out: &mut [u8]) {
    Hkdf::<Sha512>::new(Some(salt), &secret.0)
        .expand(info, out)
        .expect("it is short enough for HKDF");
}
