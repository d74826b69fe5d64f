//! **Do not use this outside of test vectors.** Takes from the caller what must be random:
//! a blind that is known links a token to its issuance, and a prover's nonce that is known or
//! used twice gives the private key away.

use crate::challenge::TokenChallenge;
use crate::dleq::{Proof, generate_proof_with_nonce};
use crate::elements::Elements;
use crate::error::DecodeError;
use crate::group::scalar_from_bytes;
use crate::issuance::{PendingToken, TokenRequest};
use crate::keys::{KeyPair, PublicKey};
use crate::suite::{NONCE_BYTES, NS};
use crate::voprf::Blind;

/// `BlindEvaluate` with the caller's prover nonce `r` (a canonical scalar, 32 bytes).
pub fn blind_evaluate_with_nonce(
    key: &KeyPair,
    blinded: &Elements,
    r: [u8; NS],
) -> Result<(Elements, Proof), DecodeError> {
    let r = scalar_from_bytes("prover nonce", r)?;
    let evaluated = crate::voprf::evaluate_elements(key.private(), blinded);
    let proof = generate_proof_with_nonce(key, blinded, &evaluated, &r);
    Ok((evaluated, proof))
}

/// A `TokenRequest` with the caller's nonce and blind.
pub fn token_request(
    key: &PublicKey,
    challenge: &TokenChallenge,
    nonce: [u8; NONCE_BYTES],
    blind: Blind,
) -> (TokenRequest, PendingToken) {
    PendingToken::from_secrets(key, challenge, nonce, blind)
}
