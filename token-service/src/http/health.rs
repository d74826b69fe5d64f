//! `/healthz`: the process answers. `/readyz`: it can issue tokens.

use axum::extract::State;

use super::{ApiError, AppState};
use crate::pipeline::IssueError;

pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

pub(crate) async fn readyz(State(state): State<AppState>) -> Result<&'static str, ApiError> {
    state.keyring.keys_at(state.now())?;
    state.store.ping().await?;
    if !state.pipeline.is_alive() {
        return Err(IssueError::Internal.into());
    }
    Ok("ready\n")
}
