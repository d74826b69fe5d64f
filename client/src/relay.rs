//! What a relay answers: its info document, receipts, and cells.

use std::time::Duration;

use reqwest::header;
use reqwest::{Client, Response, Url};
use tocyn_protocol::log::tile::MAX_ENTRY_BYTES;
use tocyn_protocol::media_type;
use tocyn_protocol::pairing::is_name;
use tocyn_protocol::redemption::BoundToken;
use tocyn_protocol::relay::{ProvenReceipt, RelayInfo};

use crate::log::files::LogFiles;
use crate::transport::{
    HttpError, MAX_DOCUMENT_BYTES, SILENCE, ServiceUrl, Transport, get_json, origin, read_bounded,
    success, unreachable,
};

pub(crate) const INFO_PATH: &str = "/v1/info";
const MESSAGES_PATH: &str = "/v1/messages";
/// The largest cell that is believed, in bytes: no relay may make a client take more memory.
const MAX_CELL_BYTES: u64 = MAX_ENTRY_BYTES as u64;
/// A reader that follows and hears nothing for this long asks again: through a proxy it would
/// not notice that the connection died.
const FOLLOW_SILENCE: Duration = Duration::from_secs(600);

/// A relay. It holds no connection: each purpose makes its own, so that two cannot share one.
pub struct RelayClient {
    transport: Transport,
    url: ServiceUrl,
}

impl RelayClient {
    /// Connects nowhere yet.
    pub fn new(transport: &Transport, url: ServiceUrl) -> Self {
        Self { transport: transport.towards(&url), url }
    }

    /// The relay's address.
    pub fn url(&self) -> &ServiceUrl {
        &self.url
    }

    /// How it is reached.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The info document with the statements of keys, over a connection that is used for nothing
    /// else: the relay cannot know whom it shows them to.
    pub async fn info(&self) -> Result<RelayInfo, HttpError> {
        let client = self.transport.client(&self.url, SILENCE)?;
        let url = self.url.at(INFO_PATH);
        check_info(&url, get_json(&client, url.clone()).await?)
    }

    /// The files of its log, over a connection of their own.
    pub fn log_files(&self) -> Result<LogFiles, HttpError> {
        LogFiles::of_relay(&self.transport, self.url.clone())
    }

    /// A connection for one message, whose cells may share it.
    pub fn poster(&self) -> Result<Poster, HttpError> {
        let client = self.transport.client(&self.url, SILENCE)?;
        Ok(Poster { url: self.url.clone(), client })
    }

    /// Waits before the next message, where that helps.
    pub(crate) async fn gap(&self) {
        self.transport.gap().await;
    }

    /// Opens a stream of cells, over a connection of its own.
    pub async fn read(
        &self,
        after: Option<u64>,
        limit: Option<u64>,
        follow: bool,
    ) -> Result<Response, HttpError> {
        let mut url = self.url.at(MESSAGES_PATH);
        let numbers = [("after", after), ("limit", limit)];
        let numbers =
            numbers.iter().filter_map(|(name, value)| Some((*name, (*value)?.to_string())));
        url.query_pairs_mut().extend_pairs(numbers);
        if follow {
            url.query_pairs_mut().append_pair("follow", "true");
        }
        let silence = if follow { FOLLOW_SILENCE } else { SILENCE };
        let client = self.transport.client(&self.url, silence)?;
        success(client.get(url.clone()).send().await.map_err(|e| unreachable(&url, &e))?).await
    }
}

/// A connection that one message goes over, and nothing else.
pub struct Poster {
    url: ServiceUrl,
    client: Client,
}

impl Poster {
    /// Posts a cell. Safe to repeat with the same token: the relay stores it once.
    pub async fn post(
        &self,
        token: &BoundToken,
        cell: Vec<u8>,
    ) -> Result<ProvenReceipt, HttpError> {
        let url = self.url.at(MESSAGES_PATH);
        let sent = self
            .client
            .post(url.clone())
            .header(header::CONTENT_TYPE, media_type::OCTET_STREAM)
            .header(header::AUTHORIZATION, token.header_value())
            .body(cell)
            .send()
            .await;
        let response = success(sent.map_err(|e| unreachable(&url, &e))?).await?;
        let body = read_bounded(response, MAX_DOCUMENT_BYTES).await?;
        serde_json::from_slice(&body)
            .map_err(|error| HttpError::Answer { url: origin(&url), why: error.to_string() })
    }
}

/// Refuses what no relay should say about itself.
pub(crate) fn check_info(url: &Url, info: RelayInfo) -> Result<RelayInfo, HttpError> {
    let refused = |why: &str| HttpError::Answer { url: origin(url), why: why.to_owned() };
    if !(1..=MAX_CELL_BYTES).contains(&info.cell_bytes) {
        return Err(refused(&format!("it says that a cell has {} bytes", info.cell_bytes)));
    }
    if !is_name(&info.origin_name) || !is_name(&info.issuer_name) {
        return Err(refused("its names are not of letters, digits, '.', '-', '_' and ':'"));
    }
    if info.origin_name != info.log_key.name() {
        return Err(refused("it calls itself otherwise than its key does"));
    }
    if info.oldest == 0 || info.head > i64::MAX as u64 || info.oldest > info.head + 1 {
        return Err(refused("the numbers of its messages do not fit together"));
    }
    Ok(info)
}
