//! Elements and scalars of ristretto255. Decoding refuses what is not
//! canonical, and the identity: a decoded [`Element`] is a valid one.

use std::sync::LazyLock;

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use sha2::{Digest, Sha512};

use crate::error::DecodeError;
use crate::suite::{HASH_TO_GROUP_DST, HASH_TO_SCALAR_DST, NE, NS};

/// A group element other than the identity, with its 32 wire bytes.
///
/// The bytes are kept because the proof's transcript hashes them again, and
/// compressing costs as much as a tenth of a multiplication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    point: RistrettoPoint,
    bytes: [u8; NE],
}

impl Element {
    /// Decodes 32 bytes (`DeserializeElement`, RFC 9497 section 4.1).
    pub fn from_bytes(what: &'static str, bytes: &[u8; NE]) -> Result<Self, DecodeError> {
        let point = CompressedRistretto(*bytes).decompress().ok_or(DecodeError::Element(what))?;
        if point.is_identity() {
            return Err(DecodeError::Identity(what));
        }
        Ok(Self { point, bytes: *bytes })
    }

    /// The 32 wire bytes (`SerializeElement`).
    pub fn as_bytes(&self) -> &[u8; NE] {
        &self.bytes
    }

    pub(crate) fn point(&self) -> &RistrettoPoint {
        &self.point
    }

    pub(crate) fn from_point(point: RistrettoPoint) -> Self {
        Self { point, bytes: point.compress().to_bytes() }
    }

    /// Of an encoding that this crate computed.
    pub(crate) fn from_own_bytes(bytes: [u8; NE]) -> Self {
        let point = CompressedRistretto(bytes).decompress().expect("it was encoded here");
        Self { point, bytes }
    }
}

/// Decodes a canonical scalar of 32 bytes (`DeserializeScalar`).
pub(crate) fn scalar_from_bytes(
    what: &'static str,
    bytes: [u8; NS],
) -> Result<Scalar, DecodeError> {
    Option::from(Scalar::from_canonical_bytes(bytes)).ok_or(DecodeError::Scalar(what))
}

/// The uniform bytes that `HashToGroup` (RFC 9497 section 4.1) maps to an element: never the raw
/// input, which could be chosen to map to the identity.
pub(crate) fn hash_to_group_bytes(input: &[u8]) -> [u8; 64] {
    expand_message(&[input], HASH_TO_GROUP_DST)
}

/// `HashToScalar` (RFC 9497 section 4.1) over the concatenation of `parts`.
pub(crate) fn hash_to_scalar(parts: &[&[u8]]) -> Scalar {
    hash_to_scalar_with(parts, HASH_TO_SCALAR_DST)
}

pub(crate) fn hash_to_scalar_with(parts: &[&[u8]], dst: &[u8]) -> Scalar {
    Scalar::from_bytes_mod_order_wide(&expand_message(parts, dst))
}

/// `expand_message_xmd` with SHA-512 for 64 bytes of output (RFC 9380 section 5.3.1).
///
/// One output block is all that is needed, so the loop of the RFC is gone.
fn expand_message(parts: &[&[u8]], dst: &[u8]) -> [u8; 64] {
    let dst_len = [u8::try_from(dst.len()).expect("every DST of this crate is short")];
    // Z_pad is one block of SHA-512, the same for every message.
    static AFTER_Z_PAD: LazyLock<Sha512> = LazyLock::new(|| Sha512::new().chain_update([0; 128]));
    let mut first = AFTER_Z_PAD.clone();
    for part in parts {
        first.update(part);
    }
    first.update(64u16.to_be_bytes());
    first.update([0]);
    first.update(dst);
    first.update(dst_len);
    let b_0 = first.finalize();
    let mut second = Sha512::new();
    second.update(b_0);
    second.update([1]);
    second.update(dst);
    second.update(dst_len);
    second.finalize().into()
}
