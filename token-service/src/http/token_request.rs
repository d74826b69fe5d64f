//! `POST /token-request`: everything is read and checked, then a voucher is charged, then the
//! tokens are evaluated.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request, header};
use axum::response::{IntoResponse, Response};
use getrandom::SysRng;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use rand_core::UnwrapErr;
use sha2::{Digest, Sha256};
use tocyn_protocol::error::DecodeError;
use tocyn_protocol::issuance::{AmortizedBatchTokenRequest, Issuer, TokenRequest};
use tocyn_protocol::media_type;
use tocyn_protocol::problem::ProblemType;
use tocyn_protocol::suite::NE;

use super::{ApiError, AppState};
use crate::store::{Charge, Charged, Refusal, Rules};
use crate::voucher::VoucherCode;

/// Bytes of a batch request beside its elements: type 2, key id 1, varint at most 4.
const BATCH_OVERHEAD_BYTES: usize = 7;

/// Requests of so many elements are read even if the limit is lower: they may be repeats of what
/// was charged under a higher one.
const MIN_READ_ELEMENTS: usize = 1024;

/// A decoded request of either form.
enum Asked {
    One(TokenRequest),
    Batch(AmortizedBatchTokenRequest),
}

impl Asked {
    fn tokens(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Batch(request) => request.len(),
        }
    }

    fn truncated_token_key_id(&self) -> u8 {
        match self {
            Self::One(request) => request.truncated_token_key_id(),
            Self::Batch(request) => request.truncated_token_key_id(),
        }
    }

    fn evaluate(&self, issuer: &Issuer) -> (&'static str, Vec<u8>) {
        let rng = &mut UnwrapErr(SysRng);
        match self {
            Self::One(request) => {
                (media_type::TOKEN_RESPONSE, issuer.evaluate(request, rng).to_bytes())
            }
            Self::Batch(request) => {
                (media_type::BATCH_RESPONSE, issuer.evaluate_batch(request, rng).to_bytes())
            }
        }
    }
}

pub(crate) async fn post(
    State(state): State<AppState>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let code_hash = voucher(request.headers())?.hash();
    let batch = is_batch(request.headers())?;
    // A stranger's request ends here, before its body and its elements cost anything.
    if !state.store.knows(&code_hash).await? {
        return Err(voucher_unknown());
    }
    let body = read_body(request.into_body(), &state).await?;
    let body_hash: [u8; 32] = Sha256::digest(&body).into();
    if batch && let Err(refusal) = check_batch_size(&body, state.limits.max_batch) {
        // What was paid for is answered, even if the limit was lowered since.
        if !state.store.was_charged(&code_hash, &body_hash).await? {
            return Err(refusal);
        }
    }
    let permit = state.evaluations.clone().try_acquire_owned().map_err(|_| {
        ApiError::new(ProblemType::Busy, "the issuer is busy; send the same request again")
    })?;
    let asked = blocking(move || decode(batch, &body)).await??;

    let now = state.now();
    let keys = state.keyring.keys_at(now)?;
    let charge = Charge {
        code_hash,
        body_hash,
        tokens: asked.tokens(),
        epoch: keys.issuing(asked.truncated_token_key_id()),
    };
    let rules = Rules {
        max_replays: state.limits.max_replays,
        replay_window_seconds: state.limits.replay_window.as_secs(),
        oldest_epoch: keys.oldest(),
    };
    let epoch = charged(state.store.charge_batch(&[charge], rules, now).await?.remove(0))?;
    let key = keys
        .of_epoch(epoch)
        .filter(|key| key.key_id().truncated() == asked.truncated_token_key_id())
        .ok_or_else(unknown_key)?;
    let (media_type, body) = blocking(move || asked.evaluate(&key)).await?;
    drop(permit);
    let headers = [(header::CONTENT_TYPE, media_type), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body).into_response())
}

/// Runs curve arithmetic off the threads that serve connections.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| {
        ApiError::new(ProblemType::Internal, "the issuer failed; send the same request again")
    })
}

/// The voucher of the one `Authorization: Bearer` header.
fn voucher(headers: &HeaderMap) -> Result<VoucherCode, ApiError> {
    let missing = |detail: &str| ApiError::new(ProblemType::VoucherMissing, detail);
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values
        .next()
        .ok_or_else(|| missing("send your voucher as `Authorization: Bearer tv1-...`"))?;
    if values.next().is_some() {
        return Err(missing("send one Authorization header, not several"));
    }
    let text = value.to_str().map_err(|_| missing("the Authorization header is not text"))?;
    match text.split_once(' ') {
        Some((scheme, code)) if scheme.eq_ignore_ascii_case("Bearer") => VoucherCode::parse(code)
            .map_err(|error| ApiError::new(ProblemType::VoucherUnknown, error.to_string())),
        _ => Err(missing("the Authorization header must read `Bearer tv1-...`")),
    }
}

/// Which of the two forms of request the media type announces.
fn is_batch(headers: &HeaderMap) -> Result<bool, ApiError> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().unwrap_or_default(),
        _ => "",
    };
    let essence = value.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(media_type::BATCH_REQUEST) {
        Ok(true)
    } else if essence.eq_ignore_ascii_case(media_type::TOKEN_REQUEST) {
        Ok(false)
    } else {
        let detail = format!(
            "send Content-Type {} or {}",
            media_type::TOKEN_REQUEST,
            media_type::BATCH_REQUEST
        );
        Err(ApiError::new(ProblemType::MediaType, detail))
    }
}

async fn read_body(body: Body, state: &AppState) -> Result<Bytes, ApiError> {
    // A little over the limit is still read, so that a batch of one too many is told so.
    let elements = (2 * state.limits.max_batch).max(MIN_READ_ELEMENTS);
    let limit = elements * NE + BATCH_OVERHEAD_BYTES;
    let read = Limited::new(body, limit).collect();
    match tokio::time::timeout(state.limits.body_timeout, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(ApiError::new(ProblemType::BodyTooLarge, "the body is too large").limit(limit))
        }
        Ok(Err(_)) => Err(ApiError::new(ProblemType::BodyIncomplete, "the body broke off")),
        Err(_) => {
            Err(ApiError::new(ProblemType::BodyIncomplete, "the body did not arrive in time"))
        }
    }
}

fn check_batch_size(body: &[u8], max_batch: usize) -> Result<(), ApiError> {
    let count = AmortizedBatchTokenRequest::declared_len(body).map_err(malformed)?;
    if count > max_batch {
        let detail = format!("{count} tokens in one request; ask for at most {max_batch}");
        return Err(ApiError::new(ProblemType::BatchTooLarge, detail).limit(max_batch));
    }
    Ok(())
}

fn decode(batch: bool, body: &[u8]) -> Result<Asked, ApiError> {
    if batch {
        AmortizedBatchTokenRequest::from_bytes(body).map(Asked::Batch).map_err(malformed)
    } else {
        TokenRequest::from_bytes(body).map(Asked::One).map_err(malformed)
    }
}

fn malformed(error: DecodeError) -> ApiError {
    ApiError::new(ProblemType::MalformedTokenRequest, error.to_string())
}

fn unknown_key() -> ApiError {
    refused(Refusal::UnknownKey)
}

fn voucher_unknown() -> ApiError {
    refused(Refusal::Unknown)
}

/// The epoch to answer under, or the refusal.
fn charged(outcome: Charged) -> Result<u64, ApiError> {
    outcome.map_err(refused)
}

fn refused(refusal: Refusal) -> ApiError {
    let problem = |problem_type| ApiError::new(problem_type, refusal.to_string());
    match refusal {
        Refusal::TooManyReplays(wait) => problem(ProblemType::TooManyReplays).retry_after(wait),
        Refusal::UnknownKey => problem(ProblemType::UnknownTokenKey),
        Refusal::Unknown => problem(ProblemType::VoucherUnknown),
        Refusal::Revoked => problem(ProblemType::VoucherRevoked),
        Refusal::Expired => problem(ProblemType::VoucherExpired),
        Refusal::Exhausted(left) => problem(ProblemType::VoucherExhausted).balance(left),
    }
}
