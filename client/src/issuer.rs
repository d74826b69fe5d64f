//! What an issuer answers: its key directory, and tokens.

use reqwest::header::{self, HeaderValue};
use reqwest::{Client, Url};
use tocyn_protocol::directory::{DIRECTORY_PATH, IssuerDirectory};
use tocyn_protocol::issuance::{AmortizedBatchTokenRequest, AmortizedBatchTokenResponse};
use tocyn_protocol::media_type;
use tocyn_protocol::suite::{NE, NS};

use zeroize::Zeroizing;

use crate::transport::{
    HttpError, SILENCE, ServiceUrl, Transport, get_json, origin, read_bounded, success, unreachable,
};

/// What tokens are paid with.
#[derive(Clone)]
pub enum Paid {
    /// A voucher's code.
    Voucher(Zeroizing<String>),
    /// A proof of work for this one request, base64url.
    Work(String),
    /// The issuer is open to all.
    Nothing,
}

/// What an issuer wants to be solved.
#[derive(serde::Deserialize)]
pub struct Puzzle {
    /// A `PowChallenge`, base64url.
    pub challenge: String,
    /// Solutions to try for 16 tokens, on average.
    pub effort: u32,
}

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

    /// A puzzle, from an issuer that takes work. Over the connection of requests: it says that
    /// somebody is about to ask for tokens.
    pub async fn puzzle(&self) -> Result<Puzzle, HttpError> {
        get_json(&self.requests, self.url.at("/v1/pow")).await
    }

    /// Sends a request. Safe to repeat: the issuer charges the same bytes once.
    pub async fn send(
        &self,
        url: &Url,
        paid: &Paid,
        request: &AmortizedBatchTokenRequest,
    ) -> Result<AmortizedBatchTokenResponse, HttpError> {
        let mut sending = self
            .requests
            .post(url.clone())
            .header(header::CONTENT_TYPE, media_type::BATCH_REQUEST)
            .body(request.to_bytes());
        let authorization = match paid {
            Paid::Voucher(code) => Some(Zeroizing::new(format!("Bearer {}", **code))),
            Paid::Work(proof) => Some(Zeroizing::new(format!("TocynPow proof=\"{proof}\""))),
            Paid::Nothing => None,
        };
        if let Some(text) = authorization {
            let mut value = HeaderValue::from_str(&text).map_err(|_| HttpError::Url {
                url: self.url.to_string(),
                why: "the voucher is not plain text",
            })?;
            value.set_sensitive(true);
            sending = sending.header(header::AUTHORIZATION, value);
        }
        let response = success(sending.send().await.map_err(|e| unreachable(url, &e))?).await?;
        // Varint at most 4, an element for each token, the proof.
        let body = read_bounded(response, 4 + request.len() * NE + 2 * NS).await?;
        AmortizedBatchTokenResponse::from_bytes(&body)
            .map_err(|error| HttpError::Answer { url: origin(url), why: error.to_string() })
    }
}
