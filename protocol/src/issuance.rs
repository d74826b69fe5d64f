//! Asking for tokens and handing them out: RFC 9578 section 5 and batched-tokens-07 section 5,
//! for token type 0x0005.

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::challenge::TokenChallenge;
use crate::codec::{Reader, put_varint_bytes};
use crate::dleq::{Proof, ProofInvalid};
use crate::elements::{Elements, LANES_FROM};
use crate::error::DecodeError;
use crate::keys::{KeyPair, PublicKey, TokenKeyId};
use crate::suite::{NE, NONCE_BYTES, NS, TOKEN_REQUEST_BYTES, TOKEN_RESPONSE_BYTES, TOKEN_TYPE};
use crate::token::{AuthenticatorInput, Token};
use crate::voprf::{self, Blind};

/// Bytes that [`PendingBatch::to_bytes`] gives for each token: nonce 32, blind 32.
pub const PENDING_TOKEN_BYTES: usize = NONCE_BYTES + NS;

/// Why an answer yields no tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FinalizeError {
    /// The issuer answered for more or fewer tokens than were asked for.
    #[error("{asked} tokens were asked for, but the issuer answered with {answered}")]
    Count {
        /// Tokens in the request.
        asked: usize,
        /// Elements in the answer.
        answered: usize,
    },
    /// The proof does not hold.
    #[error(transparent)]
    Proof(#[from] ProofInvalid),
}

/// A request for one token, 35 bytes.
///
/// ```text
/// struct {
///     uint16_t token_type = 0x0005;
///     uint8_t truncated_token_key_id;
///     uint8_t blinded_msg[Ne];
/// } TokenRequest;                                                RFC 9578 section 5.1
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    truncated_token_key_id: u8,
    blinded: Elements,
}

/// The answer to a [`TokenRequest`], 96 bytes.
///
/// ```text
/// struct {
///     uint8_t evaluate_msg[Ne];
///     uint8_t evaluate_proof[Ns+Ns];
/// } TokenResponse;                                               RFC 9578 section 5.2
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenResponse {
    evaluated: Elements,
    proof: Proof,
}

/// A request for a batch of tokens.
///
/// ```text
/// struct {
///     uint16_t token_type;
///     uint8_t truncated_token_key_id;
///     BlindedElement blinded_elements<V>;
/// } AmortizedBatchTokenRequest;                                  batched-tokens-07 section 5.1
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmortizedBatchTokenRequest {
    truncated_token_key_id: u8,
    blinded: Elements,
}

/// The answer to an [`AmortizedBatchTokenRequest`].
///
/// ```text
/// struct {
///     EvaluatedElement evaluated_elements<V>;
///     uint8_t evaluate_proof[Ns+Ns];
/// } AmortizedBatchTokenResponse;                                 batched-tokens-07 section 5.2
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmortizedBatchTokenResponse {
    evaluated: Elements,
    proof: Proof,
}

fn read_head(reader: &mut Reader<'_>) -> Result<u8, DecodeError> {
    match reader.u16()? {
        TOKEN_TYPE => reader.u8(),
        other => Err(DecodeError::TokenType(other)),
    }
}

fn read_elements(
    reader: &mut Reader<'_>,
    field: &'static str,
    one: &'static str,
) -> Result<Elements, DecodeError> {
    let bytes = reader.varint_bytes(field)?;
    let (elements, rest) = bytes.as_chunks::<NE>();
    match elements.len() {
        _ if !rest.is_empty() => {
            Err(DecodeError::Ragged { what: field, bytes: bytes.len(), unit: NE })
        }
        0 => Err(DecodeError::EmptyBatch),
        n if n > usize::from(u16::MAX) => Err(DecodeError::BatchTooLong),
        _ => Elements::from_bytes(one, elements),
    }
}

impl TokenRequest {
    /// A request under `key`, and what to keep for its answer.
    pub fn new(
        key: &PublicKey,
        challenge: &TokenChallenge,
        rng: &mut impl CryptoRng,
    ) -> (Self, PendingToken) {
        let pending = Pending::random(1, key, challenge, rng);
        let request =
            Self { truncated_token_key_id: pending.truncated(), blinded: pending.blinded.clone() };
        (request, PendingToken(pending))
    }

    /// Decodes 35 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("token request", bytes);
        let truncated_token_key_id = read_head(&mut reader)?;
        let blinded_msg = reader.array()?;
        reader.finish()?;
        let blinded = Elements::from_bytes("blinded_msg", &[blinded_msg])?;
        Ok(Self { truncated_token_key_id, blinded })
    }

    /// The 35 wire bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(TOKEN_REQUEST_BYTES);
        out.extend_from_slice(&TOKEN_TYPE.to_be_bytes());
        out.push(self.truncated_token_key_id);
        out.extend_from_slice(self.blinded.as_bytes().as_flattened());
        out
    }

    /// The last byte of the key's id.
    pub fn truncated_token_key_id(&self) -> u8 {
        self.truncated_token_key_id
    }
}

impl TokenResponse {
    /// Decodes 96 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("token response", bytes);
        let evaluate_msg = reader.array()?;
        let proof = reader.array()?;
        reader.finish()?;
        Ok(Self {
            evaluated: Elements::from_bytes("evaluate_msg", &[evaluate_msg])?,
            proof: Proof::from_bytes(&proof)?,
        })
    }

    /// The 96 wire bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(TOKEN_RESPONSE_BYTES);
        out.extend_from_slice(self.evaluated.as_bytes().as_flattened());
        out.extend_from_slice(&self.proof.to_bytes());
        out
    }
}

impl AmortizedBatchTokenRequest {
    /// A request for `count` tokens (1 to 65535) under `key`, and what to keep for its answer.
    pub fn new(
        key: &PublicKey,
        challenge: &TokenChallenge,
        count: usize,
        rng: &mut impl CryptoRng,
    ) -> Result<(Self, PendingBatch), DecodeError> {
        match count {
            0 => Err(DecodeError::EmptyBatch),
            n if n > usize::from(u16::MAX) => Err(DecodeError::BatchTooLong),
            _ => Ok(PendingBatch(Pending::random(count, key, challenge, rng)).with_request()),
        }
    }

    /// Decodes a request: at least one element, none of them the identity.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("batch token request", bytes);
        let truncated_token_key_id = read_head(&mut reader)?;
        let blinded = read_elements(&mut reader, "blinded_elements", "blinded element")?;
        reader.finish()?;
        Ok(Self { truncated_token_key_id, blinded })
    }

    /// The number of elements that `bytes` declares, before any of them is decoded: an
    /// issuer refuses what is over its limit without doing the work.
    pub fn declared_len(bytes: &[u8]) -> Result<usize, DecodeError> {
        let mut reader = Reader::new("batch token request", bytes);
        read_head(&mut reader)?;
        Ok(reader.varint_bytes("blinded_elements")?.len() / NE)
    }

    /// The wire bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = TOKEN_TYPE.to_be_bytes().to_vec();
        out.push(self.truncated_token_key_id);
        put_varint_bytes(&mut out, self.blinded.as_bytes().as_flattened());
        out
    }

    /// The last byte of the key's id.
    pub fn truncated_token_key_id(&self) -> u8 {
        self.truncated_token_key_id
    }

    /// The number of tokens asked for, at least 1.
    #[allow(clippy::len_without_is_empty)] // a decoded batch is never empty
    pub fn len(&self) -> usize {
        self.blinded.len()
    }
}

impl AmortizedBatchTokenResponse {
    /// Decodes an answer: at least one element, none of them the identity.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("batch token response", bytes);
        let evaluated = read_elements(&mut reader, "evaluated_elements", "evaluated element")?;
        let proof = Proof::from_bytes(&reader.array()?)?;
        reader.finish()?;
        Ok(Self { evaluated, proof })
    }

    /// The wire bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint_bytes(&mut out, self.evaluated.as_bytes().as_flattened());
        out.extend_from_slice(&self.proof.to_bytes());
        out
    }
}

/// Evaluates requests under one epoch's key.
pub struct Issuer {
    key: KeyPair,
    key_id: TokenKeyId,
}

impl Issuer {
    /// An issuer with this key.
    pub fn new(key: KeyPair) -> Self {
        let key_id = key.public().token_key_id();
        Self { key, key_id }
    }

    /// The key's id; a request names its last byte.
    pub fn key_id(&self) -> TokenKeyId {
        self.key_id
    }

    /// Answers a request for one token.
    pub fn evaluate(&self, request: &TokenRequest, rng: &mut impl CryptoRng) -> TokenResponse {
        let (evaluated, proof) = voprf::blind_evaluate(&self.key, &request.blinded, rng);
        TokenResponse { evaluated, proof }
    }

    /// Answers many requests for one token each, in order: cheaper than one by one, because their
    /// elements are computed together. Each answer has a proof of its own.
    pub fn evaluate_many(
        &self,
        requests: &[&TokenRequest],
        rng: &mut impl CryptoRng,
    ) -> Vec<TokenResponse> {
        if requests.len() < LANES_FROM {
            return requests.iter().map(|request| self.evaluate(request, rng)).collect();
        }
        let blinded: Vec<&Elements> = requests.iter().map(|request| &request.blinded).collect();
        let (evaluated, proofs) =
            voprf::blind_evaluate_singles(&self.key, &Elements::concat(&blinded), rng);
        evaluated
            .split()
            .into_iter()
            .zip(proofs)
            .map(|(evaluated, proof)| TokenResponse { evaluated, proof })
            .collect()
    }

    /// Answers a request for a batch, with one proof for all.
    pub fn evaluate_batch(
        &self,
        request: &AmortizedBatchTokenRequest,
        rng: &mut impl CryptoRng,
    ) -> AmortizedBatchTokenResponse {
        let (evaluated, proof) = voprf::blind_evaluate(&self.key, &request.blinded, rng);
        AmortizedBatchTokenResponse { evaluated, proof }
    }
}

/// What the client keeps between request and answer. The blinds are wiped on drop.
struct Pending {
    key: PublicKey,
    inputs: Vec<AuthenticatorInput>,
    blinds: Vec<Blind>,
    blinded: Elements,
}

impl Pending {
    fn random(
        count: usize,
        key: &PublicKey,
        challenge: &TokenChallenge,
        rng: &mut impl CryptoRng,
    ) -> Self {
        let secrets = (0..count).map(|_| {
            let mut nonce = [0; NONCE_BYTES];
            rng.fill_bytes(&mut nonce);
            (nonce, Blind::random(rng))
        });
        Self::from_secrets(key, challenge, secrets)
    }

    fn from_secrets(
        key: &PublicKey,
        challenge: &TokenChallenge,
        secrets: impl Iterator<Item = ([u8; NONCE_BYTES], Blind)>,
    ) -> Self {
        let (digest, key_id) = (challenge.digest(), key.token_key_id());
        let (inputs, blinds): (Vec<_>, Vec<_>) = secrets
            .map(|(nonce, blind)| (AuthenticatorInput::new(nonce, digest, key_id), blind))
            .unzip();
        let wire: Vec<_> = inputs.iter().map(AuthenticatorInput::to_bytes).collect();
        let blinded = voprf::blind(&wire, &blinds);
        Self { key: *key, inputs, blinds, blinded }
    }

    fn truncated(&self) -> u8 {
        self.key.token_key_id().truncated()
    }

    fn finalize(self, evaluated: &Elements, proof: &Proof) -> Result<Vec<Token>, FinalizeError> {
        if evaluated.len() != self.blinded.len() {
            return Err(FinalizeError::Count {
                asked: self.blinded.len(),
                answered: evaluated.len(),
            });
        }
        let inputs: Vec<_> = self.inputs.iter().map(AuthenticatorInput::to_bytes).collect();
        let outputs =
            voprf::finalize(&self.key, &inputs, &self.blinds, &self.blinded, evaluated, proof)?;
        Ok(self.inputs.iter().zip(outputs).map(|(input, out)| Token::new(*input, &out)).collect())
    }
}

/// What to keep for the answer to a [`TokenRequest`].
pub struct PendingToken(Pending);

impl PendingToken {
    /// Checks the proof, then unblinds.
    pub fn finalize(self, response: &TokenResponse) -> Result<Token, FinalizeError> {
        let mut tokens = self.0.finalize(&response.evaluated, &response.proof)?;
        Ok(tokens.remove(0))
    }

    #[cfg(feature = "hazmat")]
    pub(crate) fn from_secrets(
        key: &PublicKey,
        challenge: &TokenChallenge,
        nonce: [u8; NONCE_BYTES],
        blind: Blind,
    ) -> (TokenRequest, Self) {
        let pending = Pending::from_secrets(key, challenge, std::iter::once((nonce, blind)));
        let request = TokenRequest {
            truncated_token_key_id: pending.truncated(),
            blinded: pending.blinded.clone(),
        };
        (request, Self(pending))
    }
}

/// What to keep for the answer to an [`AmortizedBatchTokenRequest`].
pub struct PendingBatch(Pending);

impl PendingBatch {
    fn with_request(self) -> (AmortizedBatchTokenRequest, Self) {
        let request = AmortizedBatchTokenRequest {
            truncated_token_key_id: self.0.truncated(),
            blinded: self.0.blinded.clone(),
        };
        (request, self)
    }

    /// What a wallet saves before it sends the request: for each token the nonce, then the
    /// blind, 64 bytes.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let len = self.0.inputs.len() * PENDING_TOKEN_BYTES;
        let mut out = Zeroizing::new(Vec::with_capacity(len));
        for (input, blind) in self.0.inputs.iter().zip(&self.0.blinds) {
            out.extend_from_slice(input.nonce());
            out.extend_from_slice(blind.to_bytes().as_slice());
        }
        out
    }

    /// The saved batch, and the same request, byte for byte.
    pub fn from_bytes(
        key: &PublicKey,
        challenge: &TokenChallenge,
        bytes: &[u8],
    ) -> Result<(AmortizedBatchTokenRequest, Self), DecodeError> {
        let mut reader = Reader::new("saved batch", bytes);
        let count = bytes.len() / PENDING_TOKEN_BYTES;
        if count == 0 {
            return Err(DecodeError::EmptyBatch);
        }
        let secrets = (0..count)
            .map(|_| Ok((reader.array()?, Blind::from_bytes(reader.array()?)?)))
            .collect::<Result<Vec<_>, DecodeError>>()?;
        reader.finish()?;
        Ok(Self(Pending::from_secrets(key, challenge, secrets.into_iter())).with_request())
    }

    /// Checks the count and the proof, then unblinds each token with its own blind.
    pub fn finalize(
        self,
        response: &AmortizedBatchTokenResponse,
    ) -> Result<Vec<Token>, FinalizeError> {
        self.0.finalize(&response.evaluated, &response.proof)
    }
}
