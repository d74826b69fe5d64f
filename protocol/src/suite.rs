//! Sizes and domain-separation strings: VOPRF mode 1 of RFC 9497 with the
//! suite ristretto255-SHA512, as token type 0x0005.

/// `token_type` of VOPRF(ristretto255, SHA-512), batched-tokens-07 section 8.1.
pub const TOKEN_TYPE: u16 = 0x0005;

/// Bytes of a serialized group element (`Ne`).
pub const NE: usize = 32;
/// Bytes of a serialized scalar (`Ns`).
pub const NS: usize = 32;
/// Bytes of a hash output (`Nh`).
pub const NH: usize = 64;
/// Bytes of an authenticator (`Nk`, which is `Nh`).
pub const NK: usize = 64;
/// Bytes of a `token_key_id` (`Nid`).
pub const NID: usize = 32;
/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 32;
/// Bytes of a proof: scalar `c`, then scalar `s`.
pub const PROOF_BYTES: usize = 2 * NS;
/// Bytes of a `TokenRequest`: token type 2, truncated key id 1, element 32.
pub const TOKEN_REQUEST_BYTES: usize = 2 + 1 + NE;
/// Bytes of a `TokenResponse`: element 32, proof 64.
pub const TOKEN_RESPONSE_BYTES: usize = NE + PROOF_BYTES;
/// Bytes of an `AuthenticatorInput`: a `Token` without its authenticator.
pub const AUTHENTICATOR_INPUT_BYTES: usize = 2 + NONCE_BYTES + 32 + NID;
/// Bytes of a `Token`.
pub const TOKEN_BYTES: usize = AUTHENTICATOR_INPUT_BYTES + NK;
/// Bytes of the binding of a token to a message.
pub const BINDING_BYTES: usize = 32;
/// Bytes of a pairing's secret.
pub const PAIRING_SECRET_BYTES: usize = 32;

// RFC 9497 section 3.1: contextString = "OPRFV1-" || I2OSP(mode, 1) || "-" || identifier.
/// Separates hash-to-group from every other hash (RFC 9497 section 4.1).
pub(crate) const HASH_TO_GROUP_DST: &[u8] = b"HashToGroup-OPRFV1-\x01-ristretto255-SHA512";
/// Separates hash-to-scalar (RFC 9497 section 4.1).
pub(crate) const HASH_TO_SCALAR_DST: &[u8] = b"HashToScalar-OPRFV1-\x01-ristretto255-SHA512";
/// Separates the hash to a private key (RFC 9497 section 3.2.1).
pub(crate) const DERIVE_KEY_PAIR_DST: &[u8] = b"DeriveKeyPairOPRFV1-\x01-ristretto255-SHA512";
/// Separates the seed of the composites (RFC 9497 section 2.2.1).
pub(crate) const SEED_DST: &[u8] = b"Seed-OPRFV1-\x01-ristretto255-SHA512";
/// Info string of an issuer key (RFC 9578 section 5.5).
pub(crate) const KEY_INFO: &[u8] = b"PrivacyPass";
/// HKDF salt of an epoch's key seed.
pub(crate) const EPOCH_KEY_SALT: &[u8] = b"tocyn/v1 epoch key";
/// What the leaves of the tree over a pairing's keys begin with, after their first byte.
pub(crate) const EPOCH_LEAF_LABEL: &[u8] = EPOCH_KEY_SALT;
/// HKDF salt of what authenticates a challenge of proof of work.
#[cfg(feature = "pow")]
pub(crate) const POW_SALT: &[u8] = b"tocyn/v1 pow";
/// Merlin label of a message-bound redemption.
pub(crate) const REDEMPTION_LABEL: &[u8] = b"tocyn/v1 redemption";
/// Merlin label of the prover's hedged nonce; never on the wire.
pub(crate) const PROVER_NONCE_LABEL: &[u8] = b"tocyn/v1 prover nonce";
