//! `POST /v1/messages`: the cheapest check first.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tocyn_protocol::media_type;
use tocyn_protocol::problem::ProblemType;
use tocyn_service::body::{self, BodyError};
use tocyn_service::cors::readable_by_all;

use super::{ApiError, AppState};
use crate::relay::Posted;

pub(crate) async fn post(State(state): State<AppState>, request: Request<Body>) -> Response {
    let answer = answer(&state, request).await;
    let answer = answer.map_err(|error| error.with_challenge(&state.relay));
    let mut response = answer.into_response();
    readable_by_all(response.headers_mut());
    response
}

async fn answer(state: &AppState, request: Request<Body>) -> Result<Response, ApiError> {
    let admitted = state.relay.admit(authorization(request.headers())?)?;
    check_media_type(request.headers())?;
    let cell = read_cell(request, state).await?;
    let (status, receipt) = match state.relay.post(admitted, cell).await? {
        Posted::New(receipt) => (StatusCode::CREATED, receipt),
        Posted::Before(receipt) => (StatusCode::OK, state.relay.log.prove(receipt).await?),
    };
    Ok((status, Json(receipt)).into_response())
}

fn authorization(headers: &HeaderMap) -> Result<&str, ApiError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or_else(|| {
        ApiError::new(ProblemType::NoToken, "a post needs one token in the Authorization header")
    })?;
    let malformed = |detail: &str| ApiError::new(ProblemType::MalformedToken, detail);
    if values.next().is_some() {
        return Err(malformed("send one Authorization header, not several"));
    }
    value.to_str().map_err(|_| malformed("the Authorization header is not text"))
}

fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    if body::media_type(headers) == media_type::OCTET_STREAM {
        return Ok(());
    }
    let detail = format!("send one Content-Type, {}", media_type::OCTET_STREAM);
    Err(ApiError::new(ProblemType::MediaType, detail))
}

/// The body, if it is one cell. A wrong length that is announced ends it unread.
async fn read_cell(request: Request<Body>, state: &AppState) -> Result<Bytes, ApiError> {
    let config = &state.relay.config;
    let expected = config.cell_bytes;
    let too_large = || {
        let detail = format!("a cell has exactly {expected} bytes, this body has more");
        ApiError::new(ProblemType::BodyTooLarge, detail).limit(expected)
    };
    let too_small = |bytes: u64| {
        let detail = format!("a cell has exactly {expected} bytes, this body has {bytes}");
        ApiError::new(ProblemType::CellSize, detail).limit(expected)
    };
    match axum::body::HttpBody::size_hint(request.body()).exact() {
        Some(bytes) if bytes > expected as u64 => return Err(too_large()),
        Some(bytes) if bytes < expected as u64 => return Err(too_small(bytes)),
        _ => {}
    }
    let time = config.limits.body_timeout;
    match body::read(request.into_body(), expected, time).await {
        Ok(cell) if cell.len() == expected => Ok(cell),
        Ok(short) => Err(too_small(short.len() as u64)),
        Err(BodyError::TooLarge) => Err(too_large()),
        Err(error) => Err(ApiError::new(ProblemType::BodyIncomplete, error.to_string())),
    }
}
