//! `Token` (RFC 9577 section 2.2).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::codec::Reader;
use crate::error::DecodeError;
use crate::keys::TokenKeyId;
use crate::suite::{AUTHENTICATOR_INPUT_BYTES, NK, NONCE_BYTES, TOKEN_BYTES, TOKEN_TYPE};

/// What the issuer's key authenticates, 98 bytes: the PRF input.
///
/// ```text
/// struct {
///     uint16_t token_type;           0   2
///     uint8_t nonce[32];             2  32
///     uint8_t challenge_digest[32]; 34  32
///     uint8_t token_key_id[Nid];    66  32
/// } AuthenticatorInput;                                          RFC 9577 section 2.2
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AuthenticatorInput {
    nonce: [u8; NONCE_BYTES],
    challenge_digest: [u8; 32],
    token_key_id: TokenKeyId,
}

impl AuthenticatorInput {
    pub(crate) fn new(
        nonce: [u8; NONCE_BYTES],
        challenge_digest: [u8; 32],
        token_key_id: TokenKeyId,
    ) -> Self {
        Self { nonce, challenge_digest, token_key_id }
    }

    /// Decodes 98 bytes of token type 0x0005.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("authenticator input", bytes);
        let input = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(input)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u16()? {
            TOKEN_TYPE => {}
            other => return Err(DecodeError::TokenType(other)),
        }
        Ok(Self {
            nonce: reader.array()?,
            challenge_digest: reader.array()?,
            token_key_id: TokenKeyId(reader.array()?),
        })
    }

    /// The 98 wire bytes.
    pub fn to_bytes(&self) -> [u8; AUTHENTICATOR_INPUT_BYTES] {
        let mut out = [0; AUTHENTICATOR_INPUT_BYTES];
        out[..2].copy_from_slice(&TOKEN_TYPE.to_be_bytes());
        out[2..34].copy_from_slice(&self.nonce);
        out[34..66].copy_from_slice(&self.challenge_digest);
        out[66..].copy_from_slice(&self.token_key_id.0);
        out
    }

    /// The token's 32 random bytes.
    pub fn nonce(&self) -> &[u8; NONCE_BYTES] {
        &self.nonce
    }

    /// SHA-256 of the challenge that the token answers.
    pub fn challenge_digest(&self) -> &[u8; 32] {
        &self.challenge_digest
    }

    /// The key that the token was issued under.
    pub fn token_key_id(&self) -> TokenKeyId {
        self.token_key_id
    }
}

/// An unspent token: an [`AuthenticatorInput`] and its authenticator, 162 bytes. Whoever has
/// the bytes can spend it, so they are wiped on drop and `Debug` does not show them.
#[derive(Clone)]
pub struct Token {
    input: AuthenticatorInput,
    authenticator: Authenticator,
}

/// The PRF output `authenticator`, 64 bytes.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Authenticator(pub(crate) [u8; NK]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    pub(crate) fn new(input: AuthenticatorInput, authenticator: &[u8; NK]) -> Self {
        Self { input, authenticator: Authenticator(*authenticator) }
    }

    /// Decodes 162 bytes of token type 0x0005.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("token", bytes);
        let input = AuthenticatorInput::read(&mut reader)?;
        let authenticator = Authenticator(reader.array()?);
        reader.finish()?;
        Ok(Self { input, authenticator })
    }

    /// The 162 wire bytes.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(TOKEN_BYTES));
        out.extend_from_slice(&self.input.to_bytes());
        out.extend_from_slice(&self.authenticator.0);
        out
    }

    /// The first 98 bytes.
    pub fn input(&self) -> &AuthenticatorInput {
        &self.input
    }

    /// The token's 32 random bytes.
    pub fn nonce(&self) -> &[u8; NONCE_BYTES] {
        self.input.nonce()
    }

    /// The key that the token was issued under.
    pub fn token_key_id(&self) -> TokenKeyId {
        self.input.token_key_id()
    }

    pub(crate) fn authenticator(&self) -> &[u8; NK] {
        &self.authenticator.0
    }

    /// The value of an `Authorization` header in the form of RFC 9577 section 2.2.2.
    pub fn header_value(&self) -> String {
        format!("PrivateToken token=\"{}\"", URL_SAFE.encode(self.to_bytes().as_slice()))
    }
}
