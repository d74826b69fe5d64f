//! In the place of `pow` in a program that was built without it.

use axum::extract::State;

use super::{ApiError, AppState};
use crate::attester::work::Proof;
use crate::attester::{Attester, Grant};
use crate::store::Refusal;

pub(crate) async fn get(State(_): State<AppState>) -> ApiError {
    Refusal::Off(Attester::Pow).into()
}

/// There is none.
pub(super) enum Claimed {}

pub(super) async fn claimed(_: &AppState, grant: &Grant) -> Result<Option<Claimed>, ApiError> {
    match grant {
        Grant::Pow(_) => Err(Refusal::Off(Attester::Pow).into()),
        _ => Ok(None),
    }
}

impl Claimed {
    pub(super) async fn check(
        self,
        _: &AppState,
        _: &[u8],
        _: &[u8; 32],
        _: usize,
    ) -> Result<Proof, ApiError> {
        match self {}
    }
}
