//! What an issuer answers: its key directory, and tokens.

use reqwest::header::{self, HeaderValue};
use reqwest::{Client, Url};
use tocyn_protocol::directory::{DIRECTORY_PATH, IssuerDirectory};
use tocyn_protocol::issuance::{AmortizedBatchTokenRequest, AmortizedBatchTokenResponse};
use tocyn_protocol::media_type;
use tocyn_protocol::suite::{NE, NS};

use crate::transport::{
    HttpError, SILENCE, ServiceUrl, Transport, get_json, origin, read_bounded, success, unreachable,
};

/// An issuer. Its directory is fetched without a voucher and on a connection of its own, so
/// that the issuer cannot choose which keys to show to whom.
pub struct IssuerClient {
    url: ServiceUrl,
    directory: Client,
    requests: Client,
}

impl IssuerClient {
    /// Connects nowhere yet.
    pub fn new(transport: &Transport, url: ServiceUrl) -> Result<Self, HttpError> {
        let (directory, requests) =
            (transport.client(&url, SILENCE)?, transport.client(&url, SILENCE)?);
        Ok(Self { url, directory, requests })
    }

    /// The issuer's address.
    pub fn url(&self) -> &ServiceUrl {
        &self.url
    }

    /// The key directory.
    pub async fn directory(&self) -> Result<IssuerDirectory, HttpError> {
        get_json(&self.directory, self.url.at(DIRECTORY_PATH)).await
    }

    /// Where the directory says token requests go. It must be at the issuer itself, because
    /// vouchers are sent there, and without a query, which could tie the voucher to this reader
    /// of the directory.
    pub fn request_url(&self, directory: &IssuerDirectory) -> Result<Url, HttpError> {
        let link = &directory.issuer_request_uri;
        self.url.follow(DIRECTORY_PATH, link).ok_or_else(|| HttpError::Answer {
            url: self.url.to_string(),
            why: format!("it sends token requests elsewhere, to {}", link),
        })
    }

    /// Sends a request. Safe to repeat: the issuer charges the same bytes once.
    pub async fn send(
        &self,
        url: &Url,
        voucher: &str,
        request: &AmortizedBatchTokenRequest,
    ) -> Result<AmortizedBatchTokenResponse, HttpError> {
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {voucher}")).map_err(|_| HttpError::Url {
                url: self.url.to_string(),
                why: "the voucher is not plain text",
            })?;
        authorization.set_sensitive(true);
        let sent = self
            .requests
            .post(url.clone())
            .header(header::CONTENT_TYPE, media_type::BATCH_REQUEST)
            .header(header::AUTHORIZATION, authorization)
            .body(request.to_bytes())
            .send()
            .await;
        let response = success(sent.map_err(|e| unreachable(url, &e))?).await?;
        // Varint at most 4, an element for each token, the proof.
        let body = read_bounded(response, 4 + request.len() * NE + 2 * NS).await?;
        AmortizedBatchTokenResponse::from_bytes(&body)
            .map_err(|error| HttpError::Answer { url: origin(url), why: error.to_string() })
    }
}
