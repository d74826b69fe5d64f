//! A token request of either form: for one token, or for a batch.

use std::sync::Arc;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_protocol::error::DecodeError;
use tocyn_protocol::issuance::{AmortizedBatchTokenRequest, Issuer, TokenRequest};

/// Which of the two forms a request announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `TokenRequest`, RFC 9578.
    One,
    /// `AmortizedBatchTokenRequest`, batched-tokens-07.
    Batch,
}

/// A decoded request: its elements are valid.
pub(crate) enum Asked {
    One(TokenRequest),
    Batch(AmortizedBatchTokenRequest),
}

impl Asked {
    pub(crate) fn decode(form: Form, body: &[u8]) -> Result<Self, DecodeError> {
        match form {
            Form::One => TokenRequest::from_bytes(body).map(Self::One),
            Form::Batch => AmortizedBatchTokenRequest::from_bytes(body).map(Self::Batch),
        }
    }

    pub(crate) fn tokens(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Batch(request) => request.len(),
        }
    }

    pub(crate) fn truncated_token_key_id(&self) -> u8 {
        match self {
            Self::One(request) => request.truncated_token_key_id(),
            Self::Batch(request) => request.truncated_token_key_id(),
        }
    }
}

/// Answers requests, each under its key, in order: the bodies of the responses.
pub(crate) fn evaluate_many(requests: &[(Asked, Arc<Issuer>)]) -> Vec<Vec<u8>> {
    let rng = &mut UnwrapErr(SysRng);
    let evaluate = |(asked, key): &(Asked, Arc<Issuer>)| match asked {
        Asked::One(request) => key.evaluate(request, rng).to_bytes(),
        Asked::Batch(request) => key.evaluate_batch(request, rng).to_bytes(),
    };
    requests.iter().map(evaluate).collect()
}
