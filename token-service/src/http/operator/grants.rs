//! `POST /v1/grants`: another service, such as a payment page, asks for a code for somebody that it
//! lets in. The code is made from the id that the service gives and a secret of the day, so that a lost
//! answer can be asked for again for three days, and nothing is kept that would tell whose it is.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use tocyn_protocol::problem::ProblemType;

use super::Operator;
use super::session::same_secret;
use crate::attester::Attester;
use crate::http::ApiError;
use crate::store::Refusal;

/// The longest id in bytes.
const MAX_ID_BYTES: usize = 256;
const MAX_TOKENS: u64 = 1_000_000_000;
const DEFAULT_EXPIRES_SECONDS: u64 = 30 * 86_400;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// What the service calls this grant; a new one for each.
    id: String,
    /// Tokens that it is for.
    tokens: u64,
    /// How long it can be used.
    #[serde(default = "default_expiry")]
    expires_seconds: u64,
}

fn default_expiry() -> u64 {
    DEFAULT_EXPIRES_SECONDS
}

pub(super) async fn post(
    State(operator): State<Operator>,
    headers: HeaderMap,
    asked: Result<Json<Asked>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Some(credential) = &operator.webhook else {
        return Err(Refusal::Off(Attester::Webhook).into());
    };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|text| text.strip_prefix("Bearer ")).unwrap_or_default();
    if !same_secret(given, credential) {
        let detail = "send the webhook's credential as `Authorization: Bearer ...`";
        return Err(ApiError::new(ProblemType::VoucherMissing, detail));
    }
    let malformed = |detail: String| ApiError::new(ProblemType::MalformedRequest, detail);
    let Json(asked) = asked.map_err(|error| malformed(error.body_text()))?;
    if asked.id.is_empty() || asked.id.len() > MAX_ID_BYTES {
        return Err(malformed(format!("id must have 1 to {MAX_ID_BYTES} bytes")));
    }
    if !(1..=MAX_TOKENS).contains(&asked.tokens) || asked.expires_seconds == 0 {
        return Err(malformed(format!(
            "tokens must be from 1 to {MAX_TOKENS}, and expires_seconds above 0"
        )));
    }
    let state = &operator.state;
    state.store.check_clock(state.now()).await?;
    let code = state.secrets.grant(asked.id.as_bytes(), state.now()).await?.ok_or_else(|| {
        let detail = "this id was granted a code more than three days ago, which cannot be shown again; \
             give each grant an id of its own";
        ApiError::new(ProblemType::GrantOver, detail)
    })?;
    let expires_at = state.now().saturating_add(asked.expires_seconds).min(i64::MAX as u64);
    let attester = Attester::Webhook;
    state.store.create_vouchers(&[code.hash()], attester, asked.tokens, expires_at).await?;
    let row = state.store.voucher(&code.hash()).await?;
    let row = row.ok_or_else(|| ApiError::new(ProblemType::Internal, "the grant is not there"))?;
    if row.revoked_at.is_some() || row.expires_at <= state.now() {
        return Err(malformed("the code of this id was revoked, or has expired".to_owned()));
    }
    if row.granted != asked.tokens {
        return Err(malformed(format!(
            "this id was granted {} tokens before; give each grant an id of its own",
            row.granted
        )));
    }
    let answer = json!({
        "code": *code.text(),
        "tokens": row.granted,
        "expires_at": row.expires_at,
    });
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}
