//! `/healthz`: the process answers. `/readyz`: it can issue tokens.

use axum::extract::State;

use tocyn_protocol::problem::ProblemType;

use super::{ApiError, AppState};
use crate::pipeline::IssueError;

pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

pub(crate) async fn readyz(State(state): State<AppState>) -> Result<&'static str, ApiError> {
    if *state.leaving.borrow() {
        return Err(ApiError::new(ProblemType::Busy, "the issuer is stopping"));
    }
    state.keyring.keys_at(state.now())?;
    state.store.ping().await?;
    if !state.pipeline.is_alive() {
        return Err(IssueError::Internal.into());
    }
    match state.charges_nothing().await {
        Some(error) => Err(IssueError::Store(error).into()),
        None => Ok("ready\n"),
    }
}
