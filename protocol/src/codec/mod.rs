//! Reading and writing wire bytes. A [`Reader`] names the structure it reads,
//! so that every refusal says which one.

mod auth;

pub use auth::{AuthScheme, auth_schemes};

use crate::error::DecodeError;

/// Takes fields off the front of a byte string.
pub struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes` as the structure named `what`.
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    /// The next `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self
            .rest
            .split_at_checked(n)
            .ok_or_else(|| DecodeError::Truncated { what: self.what, need: n - self.rest.len() })?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.bytes(N)?);
        Ok(out)
    }

    /// A `uint8`.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// A `uint16`, big endian.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// An `opaque<V>`: a QUIC varint of the byte length in its shortest form
    /// (RFC 9000 section 16, batched-tokens-07 section 1), then the bytes.
    pub fn varint_bytes(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let first = self.u8()?;
        let size = 1usize << (first >> 6);
        let mut value = u64::from(first & 0x3f);
        for &byte in self.bytes(size - 1)? {
            value = value << 8 | u64::from(byte);
        }
        if varint_size(value) != size {
            return Err(DecodeError::NonMinimalVarint(field));
        }
        let len = usize::try_from(value).map_err(|_| DecodeError::BatchTooLong)?;
        self.bytes(len)
    }

    /// The end of the structure: nothing may be left over.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(DecodeError::TrailingBytes { what: self.what, extra }),
        }
    }
}

/// Bytes of the shortest QUIC varint for `value`.
fn varint_size(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// Appends an `opaque<V>`: the shortest varint of the length, then the bytes.
pub fn put_varint_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let value = bytes.len() as u64;
    let size = varint_size(value);
    let tag = (size.trailing_zeros() as u64) << (size * 8 - 2);
    out.extend_from_slice(&(value | tag).to_be_bytes()[8 - size..]);
    out.extend_from_slice(bytes);
}

/// Appends an `opaque<0..2^16-1>`: a `uint16` length, then the bytes.
///
/// Callers have checked that the length fits.
pub fn put_u16_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).expect("callers keep the length below 2^16");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_of_rfc_9000() {
        for (len, head) in [(0usize, 1), (63, 1), (64, 2), (16383, 2), (16384, 4)] {
            let mut out = Vec::new();
            put_varint_bytes(&mut out, &vec![7; len]);
            assert_eq!(out.len(), head + len);
            let mut reader = Reader::new("test", &out);
            assert_eq!(reader.varint_bytes("field").unwrap().len(), len);
            reader.finish().unwrap();
        }
    }

    #[test]
    fn longer_varints_are_refused() {
        for bytes in [&[0x40, 0x01, 0][..], &[0x80, 0, 0, 1, 0], &[0xc0, 0, 0, 0, 0, 0, 0, 1, 0]] {
            assert_eq!(
                Reader::new("test", bytes).varint_bytes("field"),
                Err(DecodeError::NonMinimalVarint("field"))
            );
        }
    }
}
