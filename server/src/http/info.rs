//! `GET /v1/info`: all that a client needs to know before it buys, posts or reads.

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tocyn_protocol::directory::TokenKey;
use tocyn_protocol::relay::{Limits, ProvenKey, RelayInfo, RetentionInfo, Versions};
use tocyn_service::serve::Connection;

use super::{ApiError, AppState};

/// The version of this protocol.
const PROTOCOL_VERSION: u32 = 1;

pub(crate) async fn get(
    State(state): State<AppState>,
    connection: Option<Extension<Connection>>,
) -> Result<Response, ApiError> {
    let info = serde_json::to_vec(&info(&state).await?).expect("it is plain data");
    // With many statements it is long: who does not take it holds a part of the readers' memory.
    let room = state.readers.room(info.len(), connection.map(|Extension(c)| c)).await;
    let headers = [(header::CONTENT_TYPE, "application/json")];
    Ok((headers, Body::from(room.fill(&info))).into_response())
}

async fn info(state: &AppState) -> Result<RelayInfo, ApiError> {
    let relay = &state.relay;
    let range = relay.store.range().await?;
    // Another relay may have signed a statement: the log's row has told its number.
    relay.log.statements().refresh().await?;
    let now = (relay.clock)();
    let published = relay.epochs.published(now)?;
    let statements = relay.log.statements();
    let proven =
        |key: &TokenKey| ProvenKey { key: key.clone(), proofs: statements.proofs(key.epoch) };
    let (pairing, config) = (relay.epochs.pairing(), &relay.config);
    Ok(RelayInfo {
        origin_name: pairing.origin_name().to_owned(),
        issuer_name: pairing.issuer_name().to_owned(),
        cell_bytes: config.cell_bytes as u64,
        oldest: range.oldest,
        head: range.head,
        epoch: published.epoch,
        now,
        statements: statements.notes(),
        token_keys: published.token_keys.iter().map(proven).collect(),
        log_key: relay.log.verifier().clone(),
        bearer: config.bearer,
        retention: RetentionInfo {
            max_age_seconds: config.retention.max_age.as_secs(),
            max_bytes: config.retention.max_bytes,
        },
        limits: Limits { max_followers: config.limits.max_followers as u64 },
        versions: Versions {
            relay: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL_VERSION,
        },
    })
}
