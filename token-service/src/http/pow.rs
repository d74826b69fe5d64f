//! `GET /v1/pow`: a puzzle for those who have no voucher; and what is done with its solution.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tocyn_protocol::pow::{EFFORT_TOKENS, PowChallenge, PowError, PowProof, WINDOW_SECONDS};
use tocyn_protocol::problem::ProblemType;

use super::{ApiError, AppState};
use crate::attester::{Attester, Grant};
use crate::store::Refusal;

pub(crate) async fn get(State(state): State<AppState>) -> Result<impl IntoResponse, ApiError> {
    if !state.attesters.pow.enabled {
        return Err(Refusal::Off(Attester::Pow).into());
    }
    let (now, effort) = (state.now(), state.current_effort());
    let challenge = PowChallenge::issue(state.keyring.pairing(), now, effort);
    let body = json!({
        "challenge": URL_SAFE_NO_PAD.encode(challenge.to_bytes()),
        "effort": effort,
        "effort_tokens": EFFORT_TOKENS,
        "expires_at": now.saturating_add(WINDOW_SECONDS),
    });
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(body)))
}

/// The proof that the grant holds, if it is one. Whose its challenge is, is looked at before the
/// body is read.
pub(super) fn claimed(state: &AppState, grant: &Grant) -> Result<Option<PowProof>, ApiError> {
    let Grant::Pow(text) = grant else { return Ok(None) };
    if !state.attesters.pow.enabled {
        return Err(Refusal::Off(Attester::Pow).into());
    }
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).unwrap_or_default();
    let proof = PowProof::from_bytes(&bytes).map_err(|_| {
        let detail = "the header must read `TocynPow proof=\"...\"`, base64url of 60 bytes";
        ApiError::new(ProblemType::PowUnsolved, detail)
    })?;
    match proof.challenge().check(state.keyring.pairing(), state.now()) {
        Err(error @ PowError::Forged) => Err(error.into()),
        // Too old: that matters only if it was not charged before.
        _ => Ok(Some(proof)),
    }
}

/// Whether this request was worked for, by a challenge of now; or by an older one, if it was charged
/// then and is only sent again.
pub(super) async fn check(
    state: &AppState,
    proof: &PowProof,
    body: &[u8],
    body_hash: &[u8; 32],
    tokens: usize,
) -> Result<(), ApiError> {
    proof.check(body, tokens as u64)?;
    let challenge = proof.challenge();
    let in_time = challenge.check(state.keyring.pairing(), state.now());
    // Half of what is asked for now is still enough: effort rises while people work.
    let enough = challenge.effort() >= state.current_effort() / 2;
    if state.store.was_charged(&Attester::Pow.account(), body_hash).await? {
        return Ok(());
    }
    if in_time.is_err() || !enough {
        return Err(PowError::Expired.into());
    }
    state.admit_work(tokens as u64);
    Ok(())
}

impl From<PowError> for ApiError {
    fn from(error: PowError) -> Self {
        let problem_type = match error {
            PowError::Forged => ProblemType::PowForged,
            PowError::Expired => ProblemType::PowExpired,
            _ => ProblemType::PowUnsolved,
        };
        Self::new(problem_type, error.to_string())
    }
}
