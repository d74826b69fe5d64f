//! `GET /checkpoint` and `GET /tile/...`: the log in the files of c2sp.org/tlog-tiles.

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tocyn_protocol::log::tile::{Content, ENTRY_HEADER_BYTES, TILE_WIDTH, Tile};
use tocyn_protocol::media_type;
use tocyn_protocol::problem::ProblemType;
use tocyn_service::serve::Connection;

use super::{ApiError, AppState};
use crate::readers::PAGE_BYTES;
use crate::store::StoreError;

/// Full tiles of hashes never change, and are kept for ever.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// Seconds for what does not change either, but is asked for only until the tile is full, or may be
/// dropped.
const ONE_DAY: u64 = 86_400;

/// How long a cache may have a tile. Messages must be able to go, so it keeps their bundles for no
/// longer than this relay would.
fn caching(tile: Tile, max_age: Duration) -> String {
    let full = u64::from(tile.width) == TILE_WIDTH;
    let seconds = match (tile.content, max_age.as_secs()) {
        (Content::Hashes(_), _) if full => return FOR_EVER.to_owned(),
        (Content::Hashes(_), _) | (Content::Entries, 0) => ONE_DAY,
        (Content::Entries, seconds) => seconds.min(ONE_DAY),
    };
    format!("public, max-age={seconds}{}", if full { ", immutable" } else { "" })
}

pub(crate) async fn checkpoint(State(state): State<AppState>) -> Result<Response, ApiError> {
    let note = state.relay.log.checkpoint().await?;
    let headers = [(header::CONTENT_TYPE, media_type::TEXT), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, note).into_response())
}

pub(crate) async fn tile(
    State(state): State<AppState>,
    Path(path): Path<String>,
    connection: Option<Extension<Connection>>,
) -> Result<Response, ApiError> {
    let not_found = |detail: String| ApiError::new(ProblemType::NotFound, detail);
    let tile: Tile =
        format!("tile/{path}").parse().map_err(|error| not_found(format!("{error}")))?;
    let caching = caching(tile, state.relay.config.retention.max_age);
    let headers = [
        (header::CONTENT_TYPE, media_type::OCTET_STREAM.to_owned()),
        (header::CACHE_CONTROL, caching),
    ];
    let body = match tile.content {
        Content::Hashes(_) => state.relay.log.tile(tile).await.map(|bytes| bytes.map(Body::from)),
        Content::Entries => {
            let has = state.relay.messages.has_entries(tile).await;
            has.map(|has| has.then(|| entries(&state, connection.map(|c| c.0), tile)))
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
fn entries(state: &AppState, connection: Option<Connection>, tile: Tile) -> Body {
    let (relay, readers) = (state.relay.clone(), state.readers.clone());
    let entry_bytes = ENTRY_HEADER_BYTES + relay.messages.cell_bytes();
    let most = (PAGE_BYTES / entry_bytes).max(1);
    Body::from_stream(stream::try_unfold(tile.start(), move |after| {
        let (relay, readers, connection) = (relay.clone(), readers.clone(), connection.clone());
        async move {
            let room = readers.room(most * entry_bytes, connection).await;
            let part = relay.messages.entries(tile, after, most as u64).await;
            let part = part.inspect_err(StoreError::log_cut).map_err(io::Error::other)?;
            Ok::<_, io::Error>(part.map(|(bytes, last)| (room.fill(&bytes), last)))
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_keep_no_messages_for_longer_than_the_relay() {
        let (days, hour) = (Duration::from_secs(90 * 86_400), Duration::from_secs(3600));
        for (path, max_age, expected) in [
            ("tile/0/001", hour, FOR_EVER),
            ("tile/1/000", days, FOR_EVER),
            ("tile/0/001.p/3", hour, "public, max-age=86400"),
            ("tile/entries/001", days, "public, max-age=86400, immutable"),
            ("tile/entries/001", hour, "public, max-age=3600, immutable"),
            ("tile/entries/001", Duration::ZERO, "public, max-age=86400, immutable"),
            ("tile/entries/001.p/3", days, "public, max-age=86400"),
            ("tile/entries/001.p/3", hour, "public, max-age=3600"),
        ] {
            assert_eq!(caching(path.parse().unwrap(), max_age), expected, "{path}");
        }
    }
}
