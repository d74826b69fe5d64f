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

/// A relay.
pub struct RelayClient {
    url: ServiceUrl,
    info: Client,
    posts: Client,
    reads: Client,
    follows: Client,
}

impl RelayClient {
    /// Connects nowhere yet.
    pub fn new(transport: &Transport, url: ServiceUrl) -> Result<Self, HttpError> {
        let client = || transport.client(&url, SILENCE);
        let (info, posts, reads) = (client()?, client()?, client()?);
        let follows = transport.client(&url, FOLLOW_SILENCE)?;
        Ok(Self { url, info, posts, reads, follows })
    }

    /// The relay's address.
    pub fn url(&self) -> &ServiceUrl {
        &self.url
    }

    /// The info document.
    pub async fn info(&self) -> Result<RelayInfo, HttpError> {
        let url = self.url.at(INFO_PATH);
        check_info(&url, get_json(&self.info, url.clone()).await?)
    }

    /// The files of its log, over the connection that messages are read from.
    pub fn log_files(&self) -> LogFiles {
        LogFiles::of_relay(self.url.clone(), self.reads.clone())
    }

    /// The same, over the connection that messages are posted on.
    pub(crate) fn log_files_for_posts(&self) -> LogFiles {
        LogFiles::of_relay(self.url.clone(), self.posts.clone())
    }

    /// Posts a cell. Safe to repeat with the same token: the relay stores it once.
    pub async fn post(
        &self,
        token: &BoundToken,
        cell: Vec<u8>,
    ) -> Result<ProvenReceipt, HttpError> {
        let url = self.url.at(MESSAGES_PATH);
        let sent = self
            .posts
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

    /// Opens a stream of cells.
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
        let client = if follow { &self.follows } else { &self.reads };
        success(client.get(url.clone()).send().await.map_err(|e| unreachable(&url, &e))?).await
    }
}

/// Refuses what no relay should say about itself.
pub(crate) fn check_info(url: &Url, info: RelayInfo) -> Result<RelayInfo, HttpError> {
    let refused = |why: &str| HttpError::Answer { url: origin(url), why: why.to_owned() };
    if !(1..=MAX_CELL_BYTES).contains(&info.cell_bytes) {
        return Err(refused(&format!("it says that a cell has {} bytes", info.cell_bytes)));
    }
    if !is_name(&info.relay_name) || !is_name(&info.issuer_name) {
        return Err(refused("its names are not of letters, digits, '.', '-', '_' and ':'"));
    }
    if info.oldest == 0 || info.head > i64::MAX as u64 || info.oldest > info.head + 1 {
        return Err(refused("the numbers of its messages do not fit together"));
    }
    Ok(info)
}
