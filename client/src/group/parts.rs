//! Messages in parts. Every cell has one part, which its author signs: so nobody, not even another
//! member, can spoil a message by posting parts that pretend to be of it. A short message has only
//! one.
//!
//! ```text
//! part        2  from 0
//! parts       2  of how many
//! id         32  of the whole message
//! author     32  Ed25519 public key, another one in each group
//! signature  64  Ed25519 over "tocyn/v1 group message" 0x00, the group's id, part, parts, id, bytes
//! bytes       2  + these, then zeros up to the cell's size
//! ```

use ed25519_dalek::{Signature, VerifyingKey};
use tocyn_protocol::codec::{Reader, put_u16_bytes};
use tocyn_protocol::error::DecodeError;

use super::cell::OVERHEAD_BYTES;
use super::message::{Author, AuthorKey, Id};

const HEADER_BYTES: usize = 2 + 2 + 32 + 32 + 64 + 2;
/// Separates signatures of parts from all others.
const SIGNED: &[u8] = b"tocyn/v1 group message\0";
/// The most parts of a message: 7.2 MiB in cells of the default size.
pub const MAX_PARTS: usize = 4096;

/// A part of a message, whose signature is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// From 0.
    pub index: u16,
    /// Of how many.
    pub of: u16,
    /// The whole message's id.
    pub id: Id,
    /// Who signed it.
    pub author: Author,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The message does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message to a group of this relay has at most {limit} bytes; this one has {got}")]
pub struct TooLong {
    /// The most bytes, those around what is said included.
    pub limit: usize,
    /// This message's.
    pub got: usize,
}

fn signed(group: &[u8; 32], index: u16, of: u16, id: Id, bytes: &[u8]) -> Vec<u8> {
    [SIGNED, group, &index.to_be_bytes(), &of.to_be_bytes(), &id.0, bytes].concat()
}

/// Bytes of a message that one cell takes.
pub fn capacity(cell_bytes: usize) -> usize {
    cell_bytes.saturating_sub(OVERHEAD_BYTES + HEADER_BYTES).min(usize::from(u16::MAX))
}

/// Plaintexts of the cells that a message to the group with this id takes, each of the same size.
pub fn split(
    message: &[u8],
    key: &AuthorKey,
    group: &[u8; 32],
    cell_bytes: usize,
) -> Result<Vec<Vec<u8>>, TooLong> {
    let capacity = capacity(cell_bytes);
    let limit = capacity * MAX_PARTS;
    // Nothing goes in cells without room, not even nothing.
    if message.len() > limit || capacity == 0 {
        return Err(TooLong { limit, got: message.len() });
    }
    let id = Id::of(message);
    let parts = message.chunks(capacity);
    let of = parts.len() as u16;
    Ok((0u16..)
        .zip(parts)
        .map(|(index, bytes)| {
            let mut out = Vec::with_capacity(cell_bytes - OVERHEAD_BYTES);
            out.extend(index.to_be_bytes());
            out.extend(of.to_be_bytes());
            out.extend(id.0);
            out.extend(key.author().0);
            out.extend(key.sign(&signed(group, index, of, id, bytes)));
            put_u16_bytes(&mut out, bytes);
            out.resize(cell_bytes - OVERHEAD_BYTES, 0);
            out
        })
        .collect())
}

impl Part {
    /// Decodes the plaintext of a cell, and checks that its author signed it for this group.
    pub fn open(plaintext: &[u8], group: &[u8; 32]) -> Result<Self, DecodeError> {
        let what = "part of a message";
        let refused = |why| DecodeError::Text { what, why };
        let mut reader = Reader::new(what, plaintext);
        let (index, of, id) = (reader.u16()?, reader.u16()?, Id(reader.array()?));
        let author = Author(reader.array()?);
        let signature = Signature::from_bytes(&reader.array()?);
        let len = reader.u16()?;
        let bytes = reader.bytes(len.into())?.to_vec();
        // The signature does not cover the padding, which could carry something or mark a copy.
        if plaintext[HEADER_BYTES + bytes.len()..].iter().any(|&byte| byte != 0) {
            return Err(refused("its padding is not zero"));
        }
        if index >= of || usize::from(of) > MAX_PARTS {
            return Err(refused("its number is out of range"));
        }
        let key = VerifyingKey::from_bytes(&author.0);
        let verified = key
            .and_then(|key| key.verify_strict(&signed(group, index, of, id, &bytes), &signature));
        verified.map_err(|_| refused("its signature is wrong"))?;
        Ok(Self { index, of, id, author, bytes })
    }
}
