//! The issuer's public keys as JSON (RFC 9578 section 4), with members of our own that
//! standard clients ignore: `now`, and of each key `not-after` and `epoch`.

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::error::DecodeError;
use crate::keys::PublicKey;
use crate::pairing::{Epoch, Pairing};
use crate::suite::TOKEN_TYPE;

/// Where every issuer serves its directory.
pub const DIRECTORY_PATH: &str = "/.well-known/private-token-issuer-directory";

/// One entry of `token-keys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TokenKey {
    /// 5.
    pub token_type: u16,
    /// The public key, 32 bytes in base64url.
    pub token_key: String,
    /// First unix second of issuance.
    pub not_before: u64,
    /// First unix second at which the relay no longer takes its tokens.
    pub not_after: u64,
    /// The key's epoch.
    pub epoch: Epoch,
}

impl TokenKey {
    /// The entry of an epoch. Its tokens are taken until the end of the epoch after.
    pub fn for_epoch(pairing: &Pairing, epoch: Epoch) -> Self {
        Self {
            token_type: TOKEN_TYPE,
            token_key: URL_SAFE.encode(pairing.key_pair(epoch).public().to_bytes()),
            not_before: pairing.schedule().start(epoch),
            not_after: pairing.schedule().not_after(epoch),
            epoch,
        }
    }

    /// The decoded key; base64url with or without padding.
    pub fn public_key(&self) -> Result<PublicKey, DecodeError> {
        if self.token_type != TOKEN_TYPE {
            return Err(DecodeError::TokenType(self.token_type));
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(self.token_key.trim_end_matches('='))
            .map_err(|_| DecodeError::Text { what: "token-key", why: "it is not base64url" })?;
        PublicKey::from_bytes(&bytes)
    }
}

/// Where every issuer takes token requests, relative to its own address. No document may name
/// another place: that could mark the reader of the document.
pub const TOKEN_REQUEST_PATH: &str = "/token-request";
/// The same as the directory has it, relative to the directory.
pub const TOKEN_REQUEST_URI: &str = "../token-request";

/// The document at [`DIRECTORY_PATH`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct IssuerDirectory {
    /// Where to send token requests: always [`TOKEN_REQUEST_URI`].
    pub issuer_request_uri: String,
    /// Unix seconds by the issuer's clock.
    pub now: u64,
    /// The current key, then the next.
    pub token_keys: Vec<TokenKey>,
}
