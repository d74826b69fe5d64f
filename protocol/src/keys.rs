//! Issuer keys: `DeriveKeyPair` of RFC 9497 section 3.2.1 and the ids of RFC 9578 section 5.5.

use curve25519_dalek::constants::RISTRETTO_BASEPOINT_TABLE;
use curve25519_dalek::scalar::Scalar;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::error::DecodeError;
use crate::group::{Element, hash_to_scalar_with, scalar_from_bytes};
use crate::suite::{DERIVE_KEY_PAIR_DST, NE, NID, NS};

/// The issuer's private key `skI`. Wiped on drop; has no `Debug`, `Clone` or `Copy`.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct PrivateKey(Scalar);

impl PrivateKey {
    /// Decodes a canonical, non-zero scalar of 32 bytes.
    pub fn from_bytes(bytes: [u8; NS]) -> Result<Self, DecodeError> {
        let scalar = scalar_from_bytes("private key", bytes)?;
        if scalar == Scalar::ZERO {
            return Err(DecodeError::Scalar("private key"));
        }
        Ok(Self(scalar))
    }

    pub(crate) fn scalar(&self) -> &Scalar {
        &self.0
    }
}

/// The issuer's public key `pkI`, 32 bytes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(Element);

impl PublicKey {
    /// Decodes 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = crate::codec::Reader::new("token key", bytes);
        let key = Element::from_bytes("token key", &reader.array()?)?;
        reader.finish()?;
        Ok(Self(key))
    }

    /// The 32 wire bytes.
    pub fn to_bytes(&self) -> [u8; NE] {
        *self.0.as_bytes()
    }

    /// `token_key_id = SHA-256(pkI)`.
    pub fn token_key_id(&self) -> TokenKeyId {
        TokenKeyId(Sha256::digest(self.0.as_bytes()).into())
    }

    pub(crate) fn element(&self) -> &Element {
        &self.0
    }
}

/// `token_key_id`, 32 bytes: names the key that a token was issued under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenKeyId(pub [u8; NID]);

impl TokenKeyId {
    /// `truncated_token_key_id`: the last byte.
    pub fn truncated(&self) -> u8 {
        self.0[NID - 1]
    }
}

/// A private key with its public key.
pub struct KeyPair {
    private: PrivateKey,
    public: PublicKey,
}

impl KeyPair {
    /// The pair of a private key.
    pub fn new(private: PrivateKey) -> Self {
        let public = PublicKey(Element::from_point(private.scalar() * RISTRETTO_BASEPOINT_TABLE));
        Self { private, public }
    }

    /// `DeriveKeyPair(seed, info)`, RFC 9497 section 3.2.1.
    pub fn derive(seed: &[u8; 32], info: &[u8]) -> Self {
        let info_len = u16::try_from(info.len()).expect("info strings are short").to_be_bytes();
        for counter in 0..=u8::MAX {
            let parts: &[&[u8]] = &[seed, &info_len, info, &[counter]];
            let scalar = hash_to_scalar_with(parts, DERIVE_KEY_PAIR_DST);
            if scalar != Scalar::ZERO {
                return Self::new(PrivateKey(scalar));
            }
        }
        unreachable!("256 hashes to zero: probability 2^-64000")
    }

    /// `pkI`.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// `skI`.
    pub fn private(&self) -> &PrivateKey {
        &self.private
    }
}
