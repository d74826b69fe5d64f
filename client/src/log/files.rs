//! The files of a log (c2sp.org/tlog-tiles), from the relay itself or from a mirror: a copy that
//! any file server hands out, and that nobody need trust.

use std::future::Future;

use reqwest::{Client, StatusCode};
use tocyn_protocol::log::note::MAX_NOTE_BYTES;
use tocyn_protocol::log::tile::{
    ENTRY_HEADER_BYTES, MAX_ENTRY_BYTES, TILE_WIDTH, Tile, decode_entries, decode_hashes,
};
use tocyn_protocol::log::tree::{HASH_BYTES, NodeHash};
use tocyn_protocol::relay::{CellDecoder, RelayInfo, STREAM_HEADER_BYTES};

use crate::relay::{INFO_PATH, check_info};
use crate::transport::{
    HttpError, SILENCE, ServiceUrl, Transport, get_json, origin, read_bounded, success, unreachable,
};

/// The path of the newest checkpoint.
pub const CHECKPOINT_PATH: &str = "checkpoint";

/// Whoever has tiles of hashes.
pub trait TileSource {
    /// Why there is none.
    type Error;

    /// The hashes of a tile.
    fn hashes(&self, tile: Tile) -> impl Future<Output = Result<Vec<NodeHash>, Self::Error>>;
}

/// Files below an address, over one connection; the info document, which has statements of keys,
/// comes over another each time.
#[derive(Clone)]
pub struct LogFiles {
    transport: Transport,
    url: ServiceUrl,
    client: Client,
    is_mirror: bool,
}

impl LogFiles {
    /// Those that the relay itself hands out. Connects nowhere yet.
    pub(crate) fn of_relay(transport: &Transport, url: ServiceUrl) -> Result<Self, HttpError> {
        let transport = transport.towards(&url);
        let client = transport.client(&url, SILENCE)?;
        Ok(Self { transport, url, client, is_mirror: false })
    }

    /// A copy. Connects nowhere yet.
    pub fn of_mirror(transport: &Transport, url: ServiceUrl) -> Result<Self, HttpError> {
        Ok(Self { is_mirror: true, ..Self::of_relay(transport, url)? })
    }

    /// Whether it is a copy, which may lag behind.
    pub fn is_mirror(&self) -> bool {
        self.is_mirror
    }

    /// Where they are.
    pub fn url(&self) -> &ServiceUrl {
        &self.url
    }

    /// What the relay says about itself; a mirror says in the same way what it has.
    pub async fn info(&self) -> Result<RelayInfo, HttpError> {
        let url = self.url.at(INFO_PATH);
        let client = self.transport.client(&self.url, SILENCE)?;
        check_info(&url, get_json(&client, url.clone()).await?)
    }

    /// The newest checkpoint, a signed note that is not checked here.
    pub async fn checkpoint(&self) -> Result<String, HttpError> {
        let bytes = self.get(CHECKPOINT_PATH, MAX_NOTE_BYTES).await?;
        String::from_utf8(bytes).map_err(|_| self.senseless("its checkpoint is not UTF-8"))
    }

    /// The cells of a bundle, in the order of the log. That they are those in the log is not
    /// checked here.
    pub async fn cells(&self, bundle: Tile) -> Result<Vec<Vec<u8>>, HttpError> {
        let width = usize::from(bundle.width);
        let bytes = self.tile(bundle, width * (ENTRY_HEADER_BYTES + MAX_ENTRY_BYTES)).await?;
        let cells = decode_entries(&bytes).ok().filter(|cells| cells.len() >= width);
        let cells =
            cells.ok_or_else(|| self.senseless("a bundle has fewer cells than its path says"))?;
        Ok(cells[..width].iter().map(|cell| cell.to_vec()).collect())
    }

    /// So many cells after a place in the log: from the relay only, since a copy has no such path.
    pub(crate) async fn cells_after(
        &self,
        after: u64,
        number: usize,
        cell_bytes: usize,
    ) -> Result<Vec<Vec<u8>>, HttpError> {
        let path = format!("v1/messages?after={after}&limit={number}");
        let bytes = self.get(&path, number * (STREAM_HEADER_BYTES + cell_bytes)).await?;
        let cells = CellDecoder::new(cell_bytes).push(&bytes);
        Ok(cells.into_iter().map(|(_, cell)| cell).collect())
    }

    /// A partial tile may be gone where the log has grown; then the full one is there.
    async fn tile(&self, tile: Tile, limit: usize) -> Result<Vec<u8>, HttpError> {
        match self.get(&tile.to_string(), limit).await {
            Err(HttpError::Status { status: 404, .. }) if !tile.is_full() => {
                let full = Tile { width: TILE_WIDTH as u16, ..tile };
                self.get(&full.to_string(), MAX_TILE_BYTES).await
            }
            got => got,
        }
    }

    async fn get(&self, path: &str, limit: usize) -> Result<Vec<u8>, HttpError> {
        let url = self.url.at(path);
        let sent = self.client.get(url.clone()).send().await;
        let response = sent.map_err(|error| unreachable(&url, &error))?;
        if self.is_mirror && response.status() != StatusCode::OK {
            // What is in the page of a file server is of no interest.
            let status = response.status().as_u16();
            return Err(HttpError::Status { url: origin(&url), status });
        }
        read_bounded(success(response).await?, limit).await
    }

    fn senseless(&self, why: &str) -> HttpError {
        HttpError::Answer { url: self.url.to_string(), why: why.to_owned() }
    }
}

/// The largest file that is read.
const MAX_TILE_BYTES: usize = TILE_WIDTH as usize * (ENTRY_HEADER_BYTES + MAX_ENTRY_BYTES);

impl TileSource for LogFiles {
    type Error = HttpError;

    async fn hashes(&self, tile: Tile) -> Result<Vec<NodeHash>, HttpError> {
        let width = usize::from(tile.width);
        let bytes = self.tile(tile, width * HASH_BYTES).await?;
        let bytes = bytes.get(..width * HASH_BYTES).unwrap_or(&bytes);
        decode_hashes(bytes, tile.width).map_err(|_| self.senseless("a tile of hashes breaks off"))
    }
}
