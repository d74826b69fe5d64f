//! What can be wrong with received bytes.

/// Received bytes are refused; nothing was computed from them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Fewer bytes than the structure needs.
    #[error("{what} is too short: {need} more bytes are needed")]
    Truncated {
        /// The structure or field.
        what: &'static str,
        /// Missing bytes.
        need: usize,
    },
    /// Bytes are left over after the structure.
    #[error("{extra} bytes are left over after the {what}")]
    TrailingBytes {
        /// The structure.
        what: &'static str,
        /// Bytes left over.
        extra: usize,
    },
    /// Another token type than 0x0005.
    #[error("token type {0:#06x} is not supported; this service speaks 0x0005")]
    TokenType(u16),
    /// Not the canonical encoding of a ristretto255 element.
    #[error("the {0} is not a canonical ristretto255 element")]
    Element(&'static str),
    /// The identity element, which hides nothing.
    #[error("the {0} is the identity element")]
    Identity(&'static str),
    /// Not a canonical scalar.
    #[error("the {0} is not a canonical scalar")]
    Scalar(&'static str),
    /// A varint that is longer than it need be (batched-tokens-07, RFC 9000 section 16).
    #[error("the length before {0} is not in its shortest form")]
    NonMinimalVarint(&'static str),
    /// A length that is not a whole number of elements.
    #[error("{what} has {bytes} bytes, which is not a multiple of {unit}")]
    Ragged {
        /// The vector.
        what: &'static str,
        /// Its bytes.
        bytes: usize,
        /// Bytes of one entry.
        unit: usize,
    },
    /// No elements where at least one is needed.
    #[error("the batch is empty; ask for at least one token")]
    EmptyBatch,
    /// More elements than a proof can cover.
    #[error("a batch holds at most 65535 elements")]
    BatchTooLong,
    /// Text where another form is needed.
    #[error("{what}: {why}")]
    Text {
        /// The field.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}
