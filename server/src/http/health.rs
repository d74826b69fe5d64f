//! `/healthz`: the process answers. `/readyz`: it can take posts.

use axum::extract::State;

use super::{ApiError, AppState};
use crate::Stopping;
use crate::relay::Relay;
use tocyn_protocol::problem::ProblemType;

pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

pub(crate) async fn readyz(State(state): State<AppState>) -> Result<&'static str, ApiError> {
    if *state.stopping.borrow() != Stopping::No {
        return Err(ApiError::new(ProblemType::Busy, "the relay is stopping"));
    }
    let relay: &Relay = &state.relay;
    relay.epochs.redeemer((relay.clock)())?;
    relay.store.ready().await?;
    relay.messages.ready().await?;
    if !relay.is_alive() {
        return Err(ApiError::new(ProblemType::Internal, "the relay's writer has ended"));
    }
    match relay.takes_no_posts().await {
        Some(error) => Err(ApiError::from(&*error)),
        None => Ok("ready\n"),
    }
}
