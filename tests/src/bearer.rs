//! Tokens and posts without a wallet, for tests that misuse them.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use getrandom::SysRng;
use rand_core::UnwrapErr;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use tocyn_client::pins::meet;
use tocyn_client::relay::RelayClient;
use tocyn_client::session::Session;
use tocyn_client::transport::Transport;
use tocyn_client::wallet::Wallet;
use tocyn_protocol::challenge::TokenChallenge;
use tocyn_protocol::directory::{DIRECTORY_PATH, IssuerDirectory};
use tocyn_protocol::issuance::{
    AmortizedBatchTokenRequest, AmortizedBatchTokenResponse, PendingBatch,
};
use tocyn_protocol::keys::PublicKey;
use tocyn_protocol::media_type;
use tocyn_protocol::redemption::BoundToken;
use tocyn_protocol::relay::{CellDecoder, DEFAULT_CELL_BYTES, MessageId, pack};
use tocyn_protocol::token::Token;

use crate::world::{ISSUER_NAME, RELAY_NAME};

/// An HTTP client for services on this machine.
pub fn http_client() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    // Reqwest asks for a TLS provider even where no TLS is spoken.
    let _ = rustls::crypto::ring::default_provider().install_default();
    builder.build().expect("a plain client")
}

/// The challenge of all tokens in tests.
pub fn challenge() -> TokenChallenge {
    TokenChallenge::new(ISSUER_NAME, None, RELAY_NAME).expect("the names are good")
}

/// The key that an issuer issues under now.
pub async fn current_key(http: &reqwest::Client, issuer_url: &str) -> PublicKey {
    try_current_key(http, issuer_url).await.expect("a directory with a key")
}

/// The same, of an issuer that may be in trouble.
pub async fn try_current_key(http: &reqwest::Client, issuer_url: &str) -> Option<PublicKey> {
    let answer = http.get(format!("{issuer_url}{DIRECTORY_PATH}")).send().await.ok()?;
    let directory: IssuerDirectory = answer.json().await.ok()?;
    directory.token_keys.first()?.public_key().ok()
}

/// A request for `count` tokens, and what to keep.
pub fn batch(key: &PublicKey, count: usize) -> (AmortizedBatchTokenRequest, PendingBatch) {
    AmortizedBatchTokenRequest::new(key, &challenge(), count, &mut UnwrapErr(SysRng))
        .expect("a good count")
}

/// Sends a request for tokens.
pub async fn send(
    http: &reqwest::Client,
    issuer_url: &str,
    voucher: &str,
    body: Vec<u8>,
) -> reqwest::Result<reqwest::Response> {
    http.post(format!("{issuer_url}/token-request"))
        .header(CONTENT_TYPE, media_type::BATCH_REQUEST)
        .header(AUTHORIZATION, format!("Bearer {voucher}"))
        .body(body)
        .send()
        .await
}

/// Buys tokens.
pub async fn buy(
    http: &reqwest::Client,
    issuer_url: &str,
    voucher: &str,
    count: usize,
) -> Vec<Token> {
    let (request, pending) = batch(&current_key(http, issuer_url).await, count);
    let answer = send(http, issuer_url, voucher, request.to_bytes()).await.expect("an answer");
    let answer = answer.error_for_status().expect("tokens").bytes().await.expect("a body");
    let response = AmortizedBatchTokenResponse::from_bytes(&answer).expect("a batch");
    pending.finalize(&response).expect("genuine tokens")
}

/// Draws a token from a wallet, for a cell, as the client does.
pub async fn draw(wallet: &Path, relay_url: &str, cell: &[u8]) -> Token {
    let relay = RelayClient::new(&Transport::default(), relay_url.parse().expect("a URL"));
    let wallet = Wallet::open(wallet).await.expect("a wallet");
    let session = Session { wallet: &wallet, clock: &clock, tell: &|_| {} };
    let met = meet(&session, &relay, None).await.expect("what was pinned");
    let reserved = wallet.reserve(&met.pin.key, met.keys(), cell, 0).await.expect("a wallet");
    wallet.close().await;
    reserved.expect("a token is left").token
}

/// Time since the unix epoch.
pub fn clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970")
}

/// A cell of the default size with this text.
pub fn cell(text: &str) -> Vec<u8> {
    pack(text.as_bytes(), DEFAULT_CELL_BYTES).expect("a short text")
}

/// The `Authorization` value that ties a token to a cell.
pub fn bound(token: &Token, cell: &[u8]) -> String {
    BoundToken::new(token, RELAY_NAME, &MessageId::of(cell)).header_value()
}

/// Posts a cell.
pub async fn post(
    http: &reqwest::Client,
    relay_url: &str,
    authorization: &str,
    cell: &[u8],
) -> reqwest::Result<reqwest::Response> {
    http.post(format!("{relay_url}/v1/messages"))
        .header(CONTENT_TYPE, media_type::OCTET_STREAM)
        .header(AUTHORIZATION, authorization)
        .body(cell.to_vec())
        .send()
        .await
}

/// Every message that a relay has, with its sequence.
pub async fn read_all(http: &reqwest::Client, relay_url: &str) -> Vec<(u64, Vec<u8>)> {
    let answer = http.get(format!("{relay_url}/v1/messages")).send().await.expect("an answer");
    let bytes = answer.error_for_status().expect("messages").bytes().await.expect("a body");
    let mut decoder = CellDecoder::new(DEFAULT_CELL_BYTES);
    let cells = decoder.push(&bytes);
    assert!(decoder.is_empty(), "the stream broke off");
    cells
}
