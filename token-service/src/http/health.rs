//! `/healthz`: the process answers. `/readyz`: it can issue tokens.

use axum::extract::State;

use super::{ApiError, AppState};

pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

pub(crate) async fn readyz(State(state): State<AppState>) -> Result<&'static str, ApiError> {
    state.keyring.keys_at(state.now())?;
    state.store.ping().await?;
    Ok("ready\n")
}
