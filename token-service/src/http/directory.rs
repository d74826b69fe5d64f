//! The issuer's directory (RFC 9578 section 4).

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use tocyn_protocol::directory::IssuerDirectory;
use tocyn_protocol::media_type;

use super::{ApiError, AppState, TOKEN_REQUEST_PATH};

/// The longest time for which a copy of the directory may be used.
const MAX_AGE_SECONDS: u64 = 3600;

pub(crate) async fn get(State(state): State<AppState>) -> Result<impl IntoResponse, ApiError> {
    let now = state.now();
    let keys = state.keyring.published(now)?;
    // A copy must not outlive the moment at which the next key becomes the current one.
    let max_age = keys[1].not_before.saturating_sub(now).min(MAX_AGE_SECONDS);
    let directory = IssuerDirectory {
        issuer_request_uri: TOKEN_REQUEST_PATH.to_owned(),
        token_keys: keys.to_vec(),
    };
    let body = serde_json::to_vec(&directory).expect("a directory is plain data");
    let cache_control = format!("public, max-age={max_age}");
    let headers = [
        (header::CONTENT_TYPE, media_type::ISSUER_DIRECTORY.to_owned()),
        (header::CACHE_CONTROL, cache_control),
    ];
    Ok((headers, body))
}
