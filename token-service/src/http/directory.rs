//! The issuer's directory (RFC 9578 section 4).

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use tocyn_protocol::directory::{IssuerDirectory, TOKEN_REQUEST_URI};
use tocyn_protocol::media_type;

use super::{ApiError, AppState};

/// The longest time for which a copy of the directory may be used, in seconds: clients compare its
/// `now` with their clocks.
const MAX_AGE_SECONDS: u64 = 10;

pub(crate) async fn get(State(state): State<AppState>) -> Result<impl IntoResponse, ApiError> {
    let now = state.now();
    let keys = state.keyring.published(now)?;
    let directory = IssuerDirectory {
        issuer_request_uri: TOKEN_REQUEST_URI.to_owned(),
        now,
        token_keys: keys.to_vec(),
    };
    let body = serde_json::to_vec(&directory).expect("a directory is plain data");
    let cache_control = format!("public, max-age={MAX_AGE_SECONDS}");
    let headers = [
        (header::CONTENT_TYPE, media_type::ISSUER_DIRECTORY.to_owned()),
        (header::CACHE_CONTROL, cache_control),
    ];
    Ok((headers, body))
}
