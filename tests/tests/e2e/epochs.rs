//! Epochs end: keys change, old tokens are refused, their spent set is dropped. The services run
//! in this process, under a clock that the test sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tempfile::TempDir;
use tocyn_e2e::bearer::{batch, bound, buy, cell, current_key, http_client, post, send};
use tocyn_e2e::world::{ISSUER_NAME, RELAY_NAME};
use tocyn_issuer::attester::Attester;
use tocyn_issuer::http::operator::Credentials;
use tocyn_protocol::issuance::AmortizedBatchTokenResponse;
use tocyn_protocol::log::note::LogKey;
use tocyn_protocol::pairing::Pairing;
use tocyn_protocol::problem::Problem;
use tocyn_protocol::token::Token;
use tocyn_relay::messages::Messages;
use tocyn_service::listen::{Addresses, Listeners};

const GENESIS: u64 = 1_000_000;
const EPOCH: u64 = 1_000;

/// Issuer and relay in this process.
struct Scene {
    clock: Arc<AtomicU64>,
    issuer_url: String,
    relay_url: String,
    issuer: tocyn_issuer::store::Store,
    relay: tocyn_relay::store::Store,
    http: reqwest::Client,
    _dir: TempDir,
}

/// A pairing whose first keys differ in the one byte by which a request names its key. Where two
/// keys are in use that do not, the issuer refuses, and clients buy again.
fn pairing() -> Pairing {
    let rng = &mut UnwrapErr(SysRng);
    loop {
        let pairing = Pairing::generate(ISSUER_NAME, RELAY_NAME, GENESIS, EPOCH, rng).unwrap();
        let name = |epoch| pairing.key_pair(epoch).public().token_key_id().truncated();
        if (0..3).all(|epoch| name(epoch) != name(epoch + 1)) {
            return pairing;
        }
    }
}

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pairing = pairing();
        let time = Arc::new(AtomicU64::new(GENESIS));
        let clock = {
            let time = time.clone();
            Arc::new(move || time.load(Ordering::SeqCst))
        };
        let listen = async || {
            let address: Addresses = Addresses(vec!["127.0.0.1:0".parse().unwrap()]);
            let folder = std::path::Path::new("/");
            let listeners =
                Listeners::open(&address, &Addresses::default(), folder, false).await.unwrap();
            let url = listeners.public[0].to_string();
            (listeners, url)
        };
        let ((issuer_listener, issuer_url), (relay_listener, relay_url)) =
            (listen().await, listen().await);
        let issuer_path = dir.path().join("issuer.sqlite");
        let issuer = tocyn_issuer::store::Store::open(&issuer_path.as_path().into()).await.unwrap();
        let relay_config = tocyn_relay::config::Config::default();
        let relay_path = dir.path().join("relay.sqlite");
        let cell_bytes = relay_config.cell_bytes;
        let key = LogKey::generate(pairing.origin_name(), &mut UnwrapErr(SysRng));
        let database = relay_path.as_path().into();
        let verifier = key.verifier();
        let relay = tocyn_relay::store::Store::open(&database, &pairing, &verifier, cell_bytes);
        let relay = relay.await.unwrap();
        let (store, issuer_pairing, issuer_clock) =
            (issuer.clone(), pairing.clone(), clock.clone());
        tokio::spawn(async move {
            let config = tocyn_issuer::config::Config::default();
            let never = std::future::pending();
            let credentials = Credentials { operator: "x".repeat(32).into(), webhook: None };
            let (pairing, clock) = (issuer_pairing, issuer_clock);
            let listeners = issuer_listener;
            tocyn_issuer::run(&config, pairing, store, listeners, credentials, clock, never)
                .await
                .unwrap();
        });
        let store = relay.clone();
        let now = clock();
        let log = tocyn_relay::log::Log::open(store.clone(), key, &pairing, &relay_config, now);
        let log = log.await.unwrap();
        tokio::spawn(async move {
            let never = std::future::pending();
            let messages = Messages::open(store, None, log.verifier(), cell_bytes).await.unwrap();
            tocyn_relay::run(&relay_config, pairing, messages, log, relay_listener, clock, never)
                .await
                .unwrap();
        });
        let http = http_client();
        Self { clock: time, issuer_url, relay_url, issuer, relay, http, _dir: dir }
    }

    /// Sets the clock: so many seconds into an epoch.
    fn set(&self, epoch: u64, seconds: u64) {
        self.clock.store(GENESIS + epoch * EPOCH + seconds, Ordering::SeqCst);
    }

    async fn voucher(&self) -> String {
        let code = tocyn_issuer::voucher::VoucherCode::random(&mut UnwrapErr(SysRng));
        let never = GENESIS + 1000 * EPOCH;
        self.issuer
            .create_vouchers(&[code.hash()], Attester::Voucher, 10_000, never)
            .await
            .unwrap();
        code.text().to_string()
    }

    async fn buy(&self, count: usize) -> Vec<Token> {
        buy(&self.http, &self.issuer_url, &self.voucher().await, count).await
    }

    /// The status of a post, and the problem type where it is refused.
    async fn post(&self, token: &Token, text: &str) -> (u16, String) {
        let cell = cell(text);
        let answer = post(&self.http, &self.relay_url, &bound(token, &cell), &cell).await.unwrap();
        let status = answer.status().as_u16();
        let problem: Option<Problem> = answer.json().await.ok();
        (status, problem.map(|problem| problem.urn).unwrap_or_default())
    }
}

fn unknown_key() -> (u16, String) {
    (401, "urn:tocyn:problem:unknown-key".to_owned())
}

fn stored() -> (u16, String) {
    (201, String::new())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lives_through_its_own_epoch_and_the_next() {
    let scene = Scene::new().await;
    let tokens = scene.buy(4).await;
    assert_eq!(scene.post(&tokens[0], "in its own epoch").await, stored());
    scene.set(1, EPOCH - 1);
    assert_eq!(scene.post(&tokens[1], "at the end of the next").await, stored());
    assert_eq!(scene.post(&tokens[0], "in its own epoch").await, (200, String::new()));
    scene.set(2, 0);
    assert_eq!(scene.post(&tokens[2], "too late").await, unknown_key());
    assert_eq!(scene.post(&tokens[0], "in its own epoch").await, unknown_key());
    let fresh = scene.buy(1).await;
    assert_eq!(scene.post(&fresh[0], "a new one").await, stored());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_epochs_spent_set_is_dropped_and_stays_closed_when_the_clock_goes_back() {
    let scene = Scene::new().await;
    let tokens = scene.buy(2).await;
    assert_eq!(scene.post(&tokens[0], "spent in epoch 0").await, stored());
    scene.set(2, 5);
    assert_eq!(scene.relay.close_epochs_below(1).await.unwrap(), [0], "dropped whole");
    assert!(scene.relay.close_epochs_below(1).await.unwrap().is_empty(), "once");
    // The nonces of epoch 0 are forgotten: nothing of it may be taken again.
    scene.set(0, 5);
    assert_eq!(scene.post(&tokens[0], "a second message").await, unknown_key());
    assert_eq!(scene.post(&tokens[1], "unspent, but closed").await, unknown_key());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_takes_the_next_epochs_tokens_within_the_clock_tolerance() {
    let scene = Scene::new().await;
    scene.set(1, 0);
    let tokens = scene.buy(2).await;
    scene.set(0, EPOCH - 61);
    assert_eq!(scene.post(&tokens[0], "the relay's clock is far behind").await, unknown_key());
    scene.set(0, EPOCH - 60);
    assert_eq!(scene.post(&tokens[0], "a little behind").await, stored());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_issuer_answers_requests_in_flight_for_a_minute_and_repeats_for_an_epoch() {
    let scene = Scene::new().await;
    let key = current_key(&scene.http, &scene.issuer_url).await;
    let voucher = scene.voucher().await;
    let ask =
        async |body: Vec<u8>| send(&scene.http, &scene.issuer_url, &voucher, body).await.unwrap();
    let (charged, pending) = batch(&key, 16);
    assert_eq!(ask(charged.to_bytes()).await.status(), 200);

    scene.set(1, 59);
    assert_ne!(
        current_key(&scene.http, &scene.issuer_url).await,
        key,
        "the directory has moved on"
    );
    assert_eq!(ask(batch(&key, 16).0.to_bytes()).await.status(), 200, "in flight");
    scene.set(1, 60);
    let late = ask(batch(&key, 16).0.to_bytes()).await;
    assert_eq!(late.status(), 422);
    assert_eq!(late.json::<Problem>().await.unwrap().urn, "urn:tocyn:problem:unknown-token-key");

    scene.set(1, EPOCH - 1);
    let repeat = ask(charged.to_bytes()).await.error_for_status().unwrap();
    let response = AmortizedBatchTokenResponse::from_bytes(&repeat.bytes().await.unwrap()).unwrap();
    let tokens = pending.finalize(&response).unwrap();
    assert_eq!(scene.post(&tokens[0], "bought in the epoch before").await, stored());
    scene.set(2, 0);
    assert_eq!(ask(charged.to_bytes()).await.status(), 422, "its tokens would be worthless");
    let balance = scene.issuer.list_vouchers().await.unwrap()[0].balance;
    assert_eq!(balance, 10_000 - 32, "refusals cost nothing");
}
