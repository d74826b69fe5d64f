//! `GET /checkpoint` and `GET /tile/...`: the log in the files of c2sp.org/tlog-tiles.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tocyn_protocol::log::tile::{Content, Tile};
use tocyn_protocol::media_type;
use tocyn_protocol::problem::ProblemType;

use super::{ApiError, AppState};
use crate::relay::Relay;
use crate::store::StoreError;

/// Tiles never change.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

pub(crate) async fn checkpoint(State(state): State<AppState>) -> Result<Response, ApiError> {
    let note = state.relay.log.checkpoint().await?;
    let headers = [(header::CONTENT_TYPE, media_type::TEXT), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, note).into_response())
}

pub(crate) async fn tile(
    State(state): State<AppState>,
    Path(path): Path<String>,
) -> Result<Response, ApiError> {
    let not_found = |detail: String| ApiError::new(ProblemType::NotFound, detail);
    let tile: Tile =
        format!("tile/{path}").parse().map_err(|error| not_found(format!("{error}")))?;
    let headers =
        [(header::CONTENT_TYPE, media_type::OCTET_STREAM), (header::CACHE_CONTROL, FOR_EVER)];
    let body = match tile.content {
        Content::Hashes(_) => state.relay.log.tile(tile).await.map(|bytes| bytes.map(Body::from)),
        Content::Entries => {
            let has = state.relay.messages.has_entries(tile).await;
            has.map(|has| has.then(|| entries(state.relay.clone(), tile)))
        }
    };
    match body {
        Ok(Some(body)) => {
            let bytes = state.relay.messages.file_bytes(tile);
            Ok((headers, [(header::CONTENT_LENGTH, bytes)], body).into_response())
        }
        Ok(None) => Err(not_found("the log is shorter than that".to_owned())),
        Err(StoreError::Overtaken) => {
            let oldest = state.relay.store.range().await?.oldest;
            let detail = format!("messages before {oldest} are no longer kept");
            Err(ApiError::new(ProblemType::CursorGone, detail).oldest(oldest))
        }
        Err(error) => Err(error.into()),
    }
}

/// A page at a time, as for readers.
fn entries(relay: Arc<Relay>, tile: Tile) -> Body {
    Body::from_stream(stream::try_unfold(tile.start(), move |after| {
        let relay = relay.clone();
        async move { relay.messages.entries(tile, after).await.map_err(io::Error::other) }
    }))
}
