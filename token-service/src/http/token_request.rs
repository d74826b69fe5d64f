//! `POST /token-request`: the cheap checks, and the body. The rest is the pipeline's.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use tocyn_protocol::issuance::AmortizedBatchTokenRequest;
use tocyn_protocol::media_type;
use tocyn_protocol::problem::ProblemType;
use tocyn_protocol::suite::NE;
use tocyn_service::body::{self, BodyError};

use super::{ApiError, AppState, pow};
use crate::asked::Form;
use crate::attester::Grant;
use crate::pipeline::Arrived;
use crate::store::Refusal;

/// Bytes of a batch request beside its elements: type 2, key id 1, varint at most 4.
const BATCH_OVERHEAD_BYTES: usize = 7;

/// Requests of so many elements are read even if the limit is lower: they may be repeats of what
/// was charged under a higher one.
const MIN_READ_ELEMENTS: usize = 1024;

pub(crate) async fn post(
    State(state): State<AppState>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let grant = Grant::read(request.headers(), state.attesters.open.enabled)?;
    let form = form(request.headers())?;
    let code_hash = grant.account();
    // A stranger's request ends here, before its body and its elements cost anything.
    let claimed = pow::claimed(&state, &grant).await?;
    if !state.store.knows(&code_hash).await? {
        return Err(Refusal::Unknown.into());
    }
    if let Some(wait) = state.refused.must_wait(&code_hash) {
        let detail = "too many requests with this voucher were refused";
        let problem = ApiError::new(ProblemType::TooManyRefusals, detail);
        return Err(problem.retry_after(wait.as_secs() + 1));
    }
    let answered = answer(&state, request, form, claimed, code_hash).await;
    // All that work, or come to an open issuer, have one account.
    if let (Grant::Code(_), Err(error)) = (&grant, &answered)
        && error.is_clients_fault()
    {
        state.refused.count(&code_hash);
    }
    answered
}

/// The answer to a request of an account that there is.
async fn answer(
    state: &AppState,
    request: Request<Body>,
    form: Form,
    claimed: Option<pow::Claimed>,
    code_hash: [u8; 32],
) -> Result<Response, ApiError> {
    let body = read_body(request.into_body(), state).await?;
    let tokens = match form {
        Form::One => 1,
        Form::Batch => AmortizedBatchTokenRequest::declared_len(&body)?,
    };
    let body_hash = Sha256::digest(&body).into();
    let proof = match claimed {
        Some(claimed) => Some(claimed.check(state, &body, &body_hash, tokens).await?),
        None => None,
    };
    // What was paid for is answered, even if the limit was lowered since.
    if tokens > state.limits.max_batch && !state.store.was_charged(&code_hash, &body_hash).await? {
        return Err(batch_too_large(tokens, state.limits.max_batch));
    }
    let answer = state.pipeline.issue(Arrived { code_hash, form, body, tokens, proof }).await?;
    let media_type = match form {
        Form::One => media_type::TOKEN_RESPONSE,
        Form::Batch => media_type::BATCH_RESPONSE,
    };
    let headers = [(header::CONTENT_TYPE, media_type), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, answer).into_response())
}

/// The form of request that the media type announces.
fn form(headers: &HeaderMap) -> Result<Form, ApiError> {
    match &*body::media_type(headers) {
        media_type::BATCH_REQUEST => Ok(Form::Batch),
        media_type::TOKEN_REQUEST => Ok(Form::One),
        _ => {
            let detail = format!(
                "send Content-Type {} or {}",
                media_type::TOKEN_REQUEST,
                media_type::BATCH_REQUEST
            );
            Err(ApiError::new(ProblemType::MediaType, detail))
        }
    }
}

async fn read_body(body: Body, state: &AppState) -> Result<Bytes, ApiError> {
    // A little over the limit is still read, so that a batch of one too many is told so.
    let elements = (2 * state.limits.max_batch).max(MIN_READ_ELEMENTS);
    let limit = elements * NE + BATCH_OVERHEAD_BYTES;
    body::read(body, limit, state.limits.body_timeout).await.map_err(|error| match error {
        BodyError::TooLarge => {
            ApiError::new(ProblemType::BodyTooLarge, error.to_string()).limit(limit)
        }
        BodyError::BrokenOff | BodyError::Late => {
            ApiError::new(ProblemType::BodyIncomplete, error.to_string())
        }
    })
}

fn batch_too_large(count: usize, max_batch: usize) -> ApiError {
    let detail = format!("{count} tokens in one request; ask for at most {max_batch}");
    ApiError::new(ProblemType::BatchTooLarge, detail).limit(max_batch)
}
