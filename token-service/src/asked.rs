//! A token request of either form: for one token, or for a batch.

use std::collections::HashMap;
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

/// Answers requests, each under its key, in order: the bodies of the responses. Single requests
/// under one key are computed together.
pub(crate) fn evaluate_many(requests: &[(Asked, Arc<Issuer>)]) -> Vec<Vec<u8>> {
    let rng = &mut UnwrapErr(SysRng);
    let mut answers = vec![Vec::new(); requests.len()];
    let mut singles: HashMap<*const Issuer, Vec<usize>> = HashMap::new();
    for (i, (asked, key)) in requests.iter().enumerate() {
        match asked {
            Asked::Batch(request) => answers[i] = key.evaluate_batch(request, rng).to_bytes(),
            Asked::One(_) => singles.entry(Arc::as_ptr(key)).or_default().push(i),
        }
    }
    for places in singles.into_values() {
        let one = |i: &usize| match &requests[*i].0 {
            Asked::One(request) => Some(request),
            Asked::Batch(_) => None,
        };
        let key = &requests[places[0]].1;
        let together: Vec<&TokenRequest> = places.iter().filter_map(one).collect();
        for (i, answer) in places.into_iter().zip(key.evaluate_many(&together, rng)) {
            answers[i] = answer.to_bytes();
        }
    }
    answers
}
