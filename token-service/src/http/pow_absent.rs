//! In the place of `pow` in a program that was built without it.

use axum::extract::State;

use super::{ApiError, AppState};
use crate::attester::{Attester, Grant};
use crate::store::Refusal;

pub(crate) async fn get(State(_): State<AppState>) -> ApiError {
    Refusal::Off(Attester::Pow).into()
}

/// There is none.
pub(super) enum Proof {}

pub(super) fn claimed(_: &AppState, grant: &Grant) -> Result<Option<Proof>, ApiError> {
    match grant {
        Grant::Pow(_) => Err(Refusal::Off(Attester::Pow).into()),
        _ => Ok(None),
    }
}

pub(super) async fn check(
    _: &AppState,
    proof: &Proof,
    _: &[u8],
    _: &[u8; 32],
    _: usize,
) -> Result<(), ApiError> {
    match *proof {}
}
