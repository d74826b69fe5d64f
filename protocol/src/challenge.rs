//! `TokenChallenge` and the `WWW-Authenticate: PrivateToken` header (RFC 9577 section 2).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use sha2::{Digest, Sha256};

use crate::codec::{Reader, put_u16_bytes};
use crate::error::DecodeError;
use crate::keys::PublicKey;
use crate::suite::TOKEN_TYPE;

/// What a token is good for.
///
/// ```text
/// struct {
///     uint16_t token_type;
///     opaque issuer_name<1..2^16-1>;
///     opaque redemption_context<0..32>;
///     opaque origin_info<0..2^16-1>;
/// } TokenChallenge;                                              RFC 9577 section 2.1
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenChallenge {
    token_type: u16,
    issuer_name: Vec<u8>,
    redemption_context: Option<[u8; 32]>,
    origin_info: Vec<u8>,
}

impl TokenChallenge {
    /// A challenge of token type 0x0005.
    pub fn new(
        issuer_name: &str,
        redemption_context: Option<[u8; 32]>,
        origin_info: &str,
    ) -> Result<Self, DecodeError> {
        Self::of_type(
            TOKEN_TYPE,
            issuer_name.as_bytes(),
            redemption_context,
            origin_info.as_bytes(),
        )
    }

    /// A challenge of any token type.
    pub fn of_type(
        token_type: u16,
        issuer_name: &[u8],
        redemption_context: Option<[u8; 32]>,
        origin_info: &[u8],
    ) -> Result<Self, DecodeError> {
        let max = usize::from(u16::MAX);
        if issuer_name.is_empty() || issuer_name.len() > max || origin_info.len() > max {
            return Err(DecodeError::Text {
                what: "challenge",
                why: "the issuer name needs 1 to 65535 bytes, the origin at most 65535",
            });
        }
        Ok(Self {
            token_type,
            issuer_name: issuer_name.to_vec(),
            redemption_context,
            origin_info: origin_info.to_vec(),
        })
    }

    /// Decodes a challenge of any token type.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("token challenge", bytes);
        let token_type = reader.u16()?;
        let issuer_len = reader.u16()?;
        let issuer_name = reader.bytes(issuer_len.into())?;
        let redemption_context = match reader.u8()? {
            0 => None,
            32 => Some(reader.array()?),
            _ => {
                return Err(DecodeError::Text {
                    what: "redemption context",
                    why: "it must have 0 or 32 bytes",
                });
            }
        };
        let origin_len = reader.u16()?;
        let origin_info = reader.bytes(origin_len.into())?;
        reader.finish()?;
        Self::of_type(token_type, issuer_name, redemption_context, origin_info)
    }

    /// The wire bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.token_type.to_be_bytes().to_vec();
        put_u16_bytes(&mut out, &self.issuer_name);
        let context = self.redemption_context.as_ref().map_or(&[][..], |c| c);
        out.push(context.len() as u8);
        out.extend_from_slice(context);
        put_u16_bytes(&mut out, &self.origin_info);
        out
    }

    /// `challenge_digest = SHA-256(TokenChallenge)`, 32 bytes.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.to_bytes()).into()
    }

    /// `token_type`.
    pub fn token_type(&self) -> u16 {
        self.token_type
    }
}

/// The value of a `WWW-Authenticate` header that asks for a token.
pub fn www_authenticate(challenge: &TokenChallenge, key: &PublicKey) -> String {
    format!(
        "PrivateToken challenge=\"{}\", token-key=\"{}\"",
        URL_SAFE.encode(challenge.to_bytes()),
        URL_SAFE.encode(key.to_bytes()),
    )
}

/// One `PrivateToken` challenge of a `WWW-Authenticate` header, whatever its token type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengeHeader {
    /// The challenge.
    pub challenge: TokenChallenge,
    /// The token key as it stands in the header, in the encoding of its token type.
    pub token_key: Option<Vec<u8>>,
    /// Seconds for which the challenge may be reused.
    pub max_age: Option<u64>,
}

/// Every `PrivateToken` challenge in a `WWW-Authenticate` value. Other schemes and unknown
/// parameters are passed over.
pub fn parse_www_authenticate(value: &str) -> Result<Vec<ChallengeHeader>, DecodeError> {
    let mut found = Vec::new();
    for scheme in crate::codec::auth_schemes(value)? {
        if !scheme.name.eq_ignore_ascii_case("PrivateToken") {
            continue;
        }
        let challenge = scheme.base64url("challenge")?.ok_or(DecodeError::Text {
            what: "WWW-Authenticate",
            why: "the PrivateToken scheme has no challenge parameter",
        })?;
        found.push(ChallengeHeader {
            challenge: TokenChallenge::from_bytes(&challenge)?,
            token_key: scheme.base64url("token-key")?,
            max_age: scheme.param("max-age").and_then(|text| text.parse().ok()),
        });
    }
    Ok(found)
}
