//! Spending a token on one message: the bound form, the bearer form of RFC 9577, and the
//! check that only the relay can make. Nothing here touches stored state.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use merlin::Transcript;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::codec::{AuthScheme, auth_schemes};
use crate::error::DecodeError;
use crate::keys::{KeyPair, TokenKeyId};
use crate::pairing::{Epoch, Pairing};
use crate::problem::ProblemType;
use crate::relay::MessageId;
use crate::suite::{AUTHENTICATOR_INPUT_BYTES, BINDING_BYTES, NK, NONCE_BYTES, REDEMPTION_LABEL};
use crate::token::{AuthenticatorInput, Token};
use crate::voprf;

/// The scheme name of the bound form.
pub const BOUND_SCHEME: &str = "TocynBound";
/// The scheme name of RFC 9577.
pub const BEARER_SCHEME: &str = "PrivateToken";

/// What the spent set remembers of a token. Two tokens never share it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpendKey {
    /// The key that the token was issued under.
    pub token_key_id: TokenKeyId,
    /// The token's nonce.
    pub nonce: [u8; NONCE_BYTES],
}

/// A token tied to one message at one relay, without its authenticator: of no use for any
/// other message to whoever sees it.
#[derive(Clone)]
pub struct BoundToken {
    input: AuthenticatorInput,
    binding: [u8; BINDING_BYTES],
}

impl BoundToken {
    /// Ties `token` to a message.
    pub fn new(token: &Token, origin_name: &str, message_id: &MessageId) -> Self {
        let binding = binding(token.input(), token.authenticator(), origin_name, message_id);
        Self { input: *token.input(), binding }
    }

    /// The value of the `Authorization` header.
    pub fn header_value(&self) -> String {
        format!(
            "{BOUND_SCHEME} input=\"{}\", binding=\"{}\"",
            URL_SAFE_NO_PAD.encode(self.input.to_bytes()),
            URL_SAFE_NO_PAD.encode(self.binding),
        )
    }
}

/// The binding of a token to a message, 32 bytes: a Merlin transcript keyed by the
/// authenticator.
fn binding(
    input: &AuthenticatorInput,
    authenticator: &[u8; NK],
    origin_name: &str,
    message_id: &MessageId,
) -> [u8; BINDING_BYTES] {
    let mut transcript = Transcript::new(REDEMPTION_LABEL);
    transcript.append_message(b"input", &input.to_bytes());
    transcript.append_message(b"authenticator", authenticator);
    transcript.append_message(b"origin", origin_name.as_bytes());
    transcript.append_message(b"request", message_id.as_bytes());
    let mut out = [0; BINDING_BYTES];
    transcript.challenge_bytes(b"binding", &mut out);
    out
}

/// Why an `Authorization` header is refused before any cryptography.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorizationError {
    /// Neither of the two schemes.
    #[error("the Authorization header has no TocynBound or PrivateToken scheme")]
    NoToken,
    /// One of the two schemes with unusable parameters.
    #[error("the token in the Authorization header is malformed: {0}")]
    Malformed(#[from] DecodeError),
}

impl AuthorizationError {
    /// The problem type that a relay answers with.
    pub fn problem_type(&self) -> ProblemType {
        match self {
            Self::NoToken => ProblemType::NoToken,
            Self::Malformed(_) => ProblemType::MalformedToken,
        }
    }
}

/// A token as it stands in an `Authorization` header.
#[derive(Clone)]
pub enum Authorization {
    /// `TocynBound input="...", binding="..."`.
    Bound(BoundToken),
    /// `PrivateToken token="..."` (RFC 9577 section 2.2.2).
    Bearer(Token),
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bound(_) => "Authorization::Bound(..)",
            Self::Bearer(_) => "Authorization::Bearer(..)",
        })
    }
}

impl Authorization {
    /// Reads a header value. Values may be quoted or not, padded or not; unknown parameters
    /// are passed over.
    pub fn parse(header_value: &str) -> Result<Self, AuthorizationError> {
        let known = |scheme: &AuthScheme<'_>| {
            scheme.name.eq_ignore_ascii_case(BOUND_SCHEME)
                || scheme.name.eq_ignore_ascii_case(BEARER_SCHEME)
        };
        let schemes = auth_schemes(header_value)?;
        let [scheme] = schemes.as_slice() else {
            return Err(match schemes.len() {
                0 => AuthorizationError::NoToken,
                _ => malformed("it holds more than one scheme").into(),
            });
        };
        if !known(scheme) {
            return Err(AuthorizationError::NoToken);
        }
        let need = |name: &'static str| match scheme.base64url(name) {
            Ok(Some(bytes)) => Ok(Zeroizing::new(bytes)),
            Ok(None) => Err(DecodeError::Text { what: name, why: "the parameter is missing" }),
            Err(error) => Err(error),
        };
        if scheme.name.eq_ignore_ascii_case(BEARER_SCHEME) {
            return Ok(Self::Bearer(Token::from_bytes(&need("token")?)?));
        }
        let input = AuthenticatorInput::from_bytes(&need("input")?)?;
        let binding = need("binding")?
            .as_slice()
            .try_into()
            .map_err(|_| DecodeError::Text { what: "binding", why: "it must have 32 bytes" })?;
        Ok(Self::Bound(BoundToken { input, binding }))
    }

    /// The token's 32 random bytes. Nobody else knows them.
    pub fn nonce(&self) -> &[u8; NONCE_BYTES] {
        self.input().nonce()
    }

    fn input(&self) -> &AuthenticatorInput {
        match self {
            Self::Bound(bound) => &bound.input,
            Self::Bearer(token) => token.input(),
        }
    }
}

const fn malformed(why: &'static str) -> DecodeError {
    DecodeError::Text { what: "Authorization header", why }
}

/// Why a token does not pay for a message. The token is untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedeemError {
    /// Made for another relay or by another issuer.
    #[error("the token was made for another relay or by another issuer")]
    WrongChallenge,
    /// Its key is none that the relay takes now.
    #[error("the token's key is unknown here, or its epoch is over; buy new tokens")]
    UnknownKey,
    /// Not issued under its key, or altered.
    #[error("the token's authenticator is wrong: it was altered or never issued")]
    BadAuthenticator,
    /// Tied to another message or relay, or altered.
    #[error("the token's binding does not fit this message: one of them was altered")]
    BadBinding,
}

impl RedeemError {
    /// The problem type that a relay answers with.
    pub fn problem_type(self) -> ProblemType {
        match self {
            Self::WrongChallenge => ProblemType::WrongChallenge,
            Self::UnknownKey => ProblemType::UnknownKey,
            Self::BadAuthenticator => ProblemType::BadAuthenticator,
            Self::BadBinding => ProblemType::BadBinding,
        }
    }
}

/// Proof, in the type system, that a token is genuine and pays for one message. Only
/// [`Redeemer::redeem`] makes one; the store spends it.
#[derive(Clone, PartialEq, Eq)]
pub struct Redeemed {
    epoch: Epoch,
    spend_key: SpendKey,
    message_id: MessageId,
}

impl Redeemed {
    /// The epoch whose spent set the token belongs to.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What the spent set must hold at most once.
    pub fn spend_key(&self) -> &SpendKey {
        &self.spend_key
    }

    /// The message that is paid for.
    pub fn message_id(&self) -> MessageId {
        self.message_id
    }
}

struct EpochKey {
    epoch: Epoch,
    key_id: TokenKeyId,
    key: KeyPair,
}

/// Verifies tokens of some epochs of one pairing.
pub struct Redeemer {
    origin_name: String,
    challenge_digest: [u8; 32],
    keys: Vec<EpochKey>,
}

impl Redeemer {
    /// Derives the keys of `epochs`.
    pub fn new(pairing: &Pairing, epochs: &[Epoch]) -> Self {
        let keys = epochs
            .iter()
            .map(|&epoch| {
                let key = pairing.key_pair(epoch);
                EpochKey { epoch, key_id: key.public().token_key_id(), key }
            })
            .collect();
        Self {
            origin_name: pairing.origin_name().to_owned(),
            challenge_digest: pairing.challenge().digest(),
            keys,
        }
    }

    /// The checks that cost nothing: challenge and key id.
    pub fn check(&self, authorization: &Authorization) -> Result<(), RedeemError> {
        self.key_for(authorization.input()).map(|_| ())
    }

    /// Verifies a token for a message: pure computation, about one multiplication.
    pub fn redeem(
        &self,
        authorization: &Authorization,
        message_id: &MessageId,
    ) -> Result<Redeemed, RedeemError> {
        self.redeem_batch(&[(authorization, *message_id)]).remove(0)
    }

    /// Verifies many tokens, each for its message; gives an answer for each. Cheaper than one by
    /// one, because they share an inversion.
    pub fn redeem_batch(
        &self,
        batch: &[(&Authorization, MessageId)],
    ) -> Vec<Result<Redeemed, RedeemError>> {
        let keys: Vec<_> = batch.iter().map(|(auth, _)| self.key_for(auth.input())).collect();
        let inputs: Vec<_> = batch.iter().map(|(auth, _)| auth.input().to_bytes()).collect();
        let known: Vec<_> = keys
            .iter()
            .zip(&inputs)
            .filter_map(|(key, input)| Some((key.as_ref().ok()?.key.private(), &input[..])))
            .collect();
        let mut expected = voprf::evaluate_batch(&known).into_iter();
        keys.iter()
            .zip(batch)
            .map(|(key, (authorization, message_id))| {
                let key = (*key)?;
                let expected = expected.next().expect("one for each known key");
                self.verify(authorization, message_id, &expected)?;
                let nonce = *authorization.input().nonce();
                let spend_key = SpendKey { token_key_id: key.key_id, nonce };
                Ok(Redeemed { epoch: key.epoch, spend_key, message_id: *message_id })
            })
            .collect()
    }

    /// Compares what was sent with what the authenticator should be, in constant time.
    fn verify(
        &self,
        authorization: &Authorization,
        message_id: &MessageId,
        expected: &[u8; NK],
    ) -> Result<(), RedeemError> {
        match authorization {
            Authorization::Bearer(token) => match token.authenticator().ct_eq(expected).into() {
                true => Ok(()),
                false => Err(RedeemError::BadAuthenticator),
            },
            Authorization::Bound(bound) => {
                let wanted = binding(&bound.input, expected, &self.origin_name, message_id);
                match bound.binding.ct_eq(&wanted).into() {
                    true => Ok(()),
                    false => Err(RedeemError::BadBinding),
                }
            }
        }
    }

    fn key_for(&self, input: &AuthenticatorInput) -> Result<&EpochKey, RedeemError> {
        if *input.challenge_digest() != self.challenge_digest {
            return Err(RedeemError::WrongChallenge);
        }
        let id = input.token_key_id();
        self.keys.iter().find(|key| key.key_id == id).ok_or(RedeemError::UnknownKey)
    }
}

// The length that the header form carries, stated once where the docs quote it.
const _: () = assert!(AUTHENTICATOR_INPUT_BYTES == 98);
