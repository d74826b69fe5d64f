//! `GET /v1/pow`: a puzzle for those who have no voucher; and what is done with its solution.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tocyn_protocol::pow::{
    EFFORT_TOKENS, PowChallenge, PowError, PowKey, PowProof, WINDOW_SECONDS,
};
use tocyn_protocol::problem::ProblemType;
use tocyn_protocol::schedule::CLOCK_TOLERANCE_SECONDS;

use super::{ApiError, AppState};
use crate::attester::{Attester, Grant};
use crate::secrets::{DAY_SECONDS, Purpose, WORK_OVERLAP_SECONDS};
use crate::store::Refusal;

pub(crate) async fn get(State(state): State<AppState>) -> Result<impl IntoResponse, ApiError> {
    if !state.attesters.pow.enabled {
        return Err(Refusal::Off(Attester::Pow).into());
    }
    let (now, effort) = (state.now(), state.current_effort());
    let key = key(&state, now).await?;
    let key =
        key.ok_or_else(|| ApiError::new(ProblemType::Internal, "there is no key of today"))?;
    let challenge = PowChallenge::issue(&key, now, effort);
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
pub(super) async fn claimed(state: &AppState, grant: &Grant) -> Result<Option<Claimed>, ApiError> {
    let Grant::Pow(text) = grant else { return Ok(None) };
    if !state.attesters.pow.enabled {
        return Err(Refusal::Off(Attester::Pow).into());
    }
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).unwrap_or_default();
    let proof = PowProof::from_bytes(&bytes).map_err(|_| {
        let detail = "the header must read `TocynPow proof=\"...\"`, base64url of 60 bytes";
        ApiError::new(ProblemType::PowUnsolved, detail)
    })?;
    let is_in_time = match key(state, proof.challenge().issued_at()).await? {
        // Too old: that matters only if it was not charged before.
        None => false,
        Some(key) => match proof.challenge().check(&key, state.now()) {
            Err(error @ PowError::Forged) => return Err(error.into()),
            checked => checked.is_ok(),
        },
    };
    Ok(Some(Claimed { proof, is_in_time }))
}

/// The key of the challenges that were given at a time, if they may still be good.
async fn key(state: &AppState, issued_at: u64) -> Result<Option<PowKey>, ApiError> {
    let now = state.now();
    let (first, last) = (
        now.saturating_sub(WORK_OVERLAP_SECONDS) / DAY_SECONDS,
        now.saturating_add(CLOCK_TOLERANCE_SECONDS) / DAY_SECONDS,
    );
    let number = issued_at / DAY_SECONDS;
    if !(first..=last).contains(&number) {
        return Ok(None);
    }
    Ok(state.secrets.get(Purpose::Work, number).await?.map(|secret| secret.pow_key()))
}

/// A proof whose challenge is this issuer's, or too old to tell.
pub(super) struct Claimed {
    proof: PowProof,
    is_in_time: bool,
}

impl Claimed {
    /// Whether this request was worked for, by a challenge of now; or by an older one, if it was
    /// charged then and is only sent again. Returns what is left to check, for threads that nobody
    /// else waits for.
    pub(super) async fn check(
        self,
        state: &AppState,
        body: &[u8],
        body_hash: &[u8; 32],
        tokens: usize,
    ) -> Result<PowProof, ApiError> {
        self.proof.check_hash(body, tokens as u64)?;
        // Half of what is asked for now is still enough: effort rises while people work.
        let enough = self.proof.challenge().effort() >= state.current_effort() / 2;
        let is_good = self.is_in_time && enough;
        if !is_good && !state.store.was_charged(&Attester::Pow.account(), body_hash).await? {
            return Err(PowError::Expired.into());
        }
        Ok(self.proof)
    }
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
