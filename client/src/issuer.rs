//! What an issuer answers: its key directory, and tokens.

use reqwest::Client;
use reqwest::header::{self, HeaderValue};
use tocyn_protocol::directory::{
    DIRECTORY_PATH, IssuerDirectory, TOKEN_REQUEST_PATH, TOKEN_REQUEST_URI,
};
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

/// An issuer.
pub struct IssuerClient {
    transport: Transport,
    url: ServiceUrl,
}

impl IssuerClient {
    /// Connects nowhere yet.
    pub fn new(transport: &Transport, url: ServiceUrl) -> Self {
        Self { transport: transport.towards(&url), url }
    }

    /// The issuer's address.
    pub fn url(&self) -> &ServiceUrl {
        &self.url
    }

    /// The key directory, over a connection of its own and without a voucher, so that the issuer
    /// cannot choose which keys to show to whom.
    pub async fn directory(&self) -> Result<IssuerDirectory, HttpError> {
        let client = self.transport.client(&self.url, SILENCE)?;
        let directory: IssuerDirectory = get_json(&client, self.url.at(DIRECTORY_PATH)).await?;
        match directory.issuer_request_uri == TOKEN_REQUEST_URI {
            true => Ok(directory),
            // Another path could tie the voucher to this reader of the directory.
            false => Err(HttpError::Answer {
                url: self.url.to_string(),
                why: format!(
                    "it wants token requests at {}, which could mark who asks; they go to {} only",
                    directory.issuer_request_uri, TOKEN_REQUEST_URI
                ),
            }),
        }
    }

    /// A connection for the requests of one voucher, or of one who works for tokens.
    pub fn counter(&self) -> Result<Counter, HttpError> {
        let client = self.transport.client(&self.url, SILENCE)?;
        Ok(Counter { url: self.url.clone(), client })
    }

    /// Waits before the next counter, where that helps.
    pub(crate) async fn gap(&self) {
        self.transport.gap().await;
    }
}

/// Where one voucher is spent: a connection that no other secret goes over.
pub struct Counter {
    url: ServiceUrl,
    client: Client,
}

impl Counter {
    /// A puzzle, from an issuer that takes work.
    pub async fn puzzle(&self) -> Result<Puzzle, HttpError> {
        get_json(&self.client, self.url.at("/v1/pow")).await
    }

    /// Sends a request. Safe to repeat: the issuer charges the same bytes once.
    pub async fn send(
        &self,
        paid: &Paid,
        request: &AmortizedBatchTokenRequest,
    ) -> Result<AmortizedBatchTokenResponse, HttpError> {
        let url = &self.url.at(TOKEN_REQUEST_PATH);
        let mut sending = self
            .client
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
