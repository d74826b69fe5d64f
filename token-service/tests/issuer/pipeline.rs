//! Requests on their way through the pipeline, with the database held up so that they meet there.

use std::sync::Arc;
use std::time::Duration;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tocyn_issuer::asked::Form;
use tocyn_issuer::attester::{Attester, Budgets};
use tocyn_issuer::config::Limits;
use tocyn_issuer::keyring::Keyring;
use tocyn_issuer::metrics::Metrics;
use tocyn_issuer::pipeline::{Arrived, IssueError, Pipeline};
use tocyn_issuer::store::{Refusal, Store, StoreError};
use tocyn_protocol::issuance::{
    AmortizedBatchTokenRequest, AmortizedBatchTokenResponse, PendingBatch,
};
use tocyn_protocol::pairing::Pairing;
use tokio::task::JoinSet;

const NOW: u64 = 1050;
const VOUCHER: [u8; 32] = [1; 32];

struct Scene {
    pipeline: Arc<Pipeline>,
    store: Store,
    pairing: Pairing,
    dir: tempfile::TempDir,
}

impl Scene {
    /// An issuer with one voucher.
    async fn new(max_evaluations: usize, tokens: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("issuer.sqlite").as_path().into()).await.unwrap();
        store.create_vouchers(&[VOUCHER], Attester::Voucher, tokens, 2000).await.unwrap();
        let rng = &mut UnwrapErr(SysRng);
        let pairing = Pairing::generate("issuer", "relay", 1000, 100, rng).unwrap();
        let limits = Limits { max_evaluations, ..Limits::default() };
        let keyring = Arc::new(Keyring::new(pairing.clone()));
        let clock = Arc::new(|| NOW);
        let pipeline = Arc::new(Pipeline::start(
            &limits,
            Budgets::UNBOUNDED,
            keyring,
            store.clone(),
            clock,
            Metrics::default(),
        ));
        Self { pipeline, store, pairing, dir }
    }

    fn request(&self, tokens: usize) -> (Vec<u8>, PendingBatch) {
        let (key, challenge) = (self.pairing.key_pair(0), self.pairing.challenge());
        let rng = &mut UnwrapErr(SysRng);
        let (request, pending) =
            AmortizedBatchTokenRequest::new(key.public(), &challenge, tokens, rng).unwrap();
        (request.to_bytes(), pending)
    }

    async fn issue(&self, body: &[u8], tokens: usize) -> Result<Vec<u8>, IssueError> {
        issue(self.pipeline.clone(), body.to_vec(), tokens).await
    }

    async fn balance(&self) -> u64 {
        self.store.list_vouchers().await.unwrap()[0].balance
    }

    /// Holds the database as another process may: no charge is made until this is closed.
    async fn hold_database(&self) -> SqliteConnection {
        let path = self.dir.path().join("issuer.sqlite");
        let mut held = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
        sqlx::query("BEGIN IMMEDIATE").execute(&mut held).await.unwrap();
        held
    }
}

async fn issue(
    pipeline: Arc<Pipeline>,
    body: Vec<u8>,
    tokens: usize,
) -> Result<Vec<u8>, IssueError> {
    let (code_hash, form, body) = (VOUCHER, Form::Batch, body.into());
    pipeline.issue(Arrived { code_hash, form, body, tokens, proof: None }).await
}

fn tokens(pending: PendingBatch, answer: &[u8]) -> usize {
    let response = AmortizedBatchTokenResponse::from_bytes(answer).unwrap();
    pending.finalize(&response).unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_issuer_refuses_at_once_and_answers_what_it_admitted() {
    let scene = Scene::new(3, 100).await;
    let held = scene.hold_database().await;
    let mut tasks = JoinSet::new();
    for _ in 0..5 {
        let (pipeline, (body, pending)) = (scene.pipeline.clone(), scene.request(16));
        tasks.spawn(async move {
            let answer = issue(pipeline, body, 16).await?;
            Ok::<_, IssueError>(tokens(pending, &answer))
        });
    }
    // Three wait for the database, so these two are answered before it is free.
    for _ in 0..2 {
        let outcome = tasks.join_next().await.unwrap().unwrap();
        assert!(matches!(outcome, Err(IssueError::Busy)), "{outcome:?}");
    }
    held.close().await.unwrap();
    for outcome in tasks.join_all().await {
        assert_eq!(outcome.unwrap(), 16);
    }
    assert_eq!(scene.balance().await, 100 - 3 * 16);
    // The slots are free again.
    let (body, pending) = scene.request(16);
    assert_eq!(tokens(pending, &scene.issue(&body, 16).await.unwrap()), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_meet_at_the_database_get_what_is_theirs() {
    let scene = Scene::new(64, 100).await;
    let held = scene.hold_database().await;
    let mut tasks = JoinSet::new();
    for size in [60, 60, 60, 16, 16, 16] {
        let (pipeline, (body, pending)) = (scene.pipeline.clone(), scene.request(size));
        tasks.spawn(async move {
            // Each is sent twice at once.
            let again = issue(pipeline.clone(), body.clone(), size);
            match tokio::join!(issue(pipeline, body, size), again) {
                (Ok(first), Ok(second)) => {
                    // The proofs are random, the elements are not.
                    let elements = first.len() - 64;
                    assert_eq!(first[..elements], second[..elements]);
                    assert_eq!(tokens(pending, &first), size);
                    size
                }
                (Err(first), Err(second)) => {
                    for error in [first, second] {
                        let IssueError::Refused(refusal) = error else { panic!("{error:?}") };
                        assert!(matches!(refusal, Refusal::Exhausted(left) if left < size as u64));
                    }
                    0
                }
                other => panic!("{other:?}"),
            }
        });
    }
    held.close().await.unwrap();
    let issued: usize = tasks.join_all().await.iter().sum();
    // One of 60 and two of 16, or three of 16.
    assert!([60 + 2 * 16, 3 * 16].contains(&issued), "{issued}");
    assert_eq!(scene.balance().await, 100 - issued as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_is_charged_once_and_answered_when_the_request_comes_again() {
    let scene = Scene::new(1, 100).await;
    // Before a thread has decoded the request, or while it waits for its charge.
    for (wait_ms, left) in [(0, 84), (50, 68)] {
        let (body, pending) = scene.request(16);
        let held = scene.hold_database().await;
        let mut first = Box::pin(scene.issue(&body, 16));
        tokio::select! {
            biased;
            outcome = &mut first => panic!("the database is held: {outcome:?}"),
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
        }
        drop(first);
        held.close().await.unwrap();
        let answer = loop {
            match scene.issue(&body, 16).await {
                // The first one is not through yet.
                Err(IssueError::Busy) => tokio::task::yield_now().await,
                outcome => break outcome.unwrap(),
            }
        };
        assert_eq!(tokens(pending, &answer), 16);
        assert_eq!(scene.balance().await, left);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_is_refused_before_the_charge() {
    let scene = Scene::new(64, 100).await;
    let (mut body, _) = scene.request(16);
    let last = body.len() - 32;
    body[last..].fill(0xff);
    let outcome = scene.issue(&body, 16).await;
    assert!(matches!(outcome, Err(IssueError::Malformed(_))), "{outcome:?}");
    let (mut body, _) = scene.request(16);
    body[2] ^= 1; // another key
    let outcome = scene.issue(&body, 16).await;
    assert!(matches!(outcome, Err(IssueError::Refused(Refusal::UnknownKey))), "{outcome:?}");
    assert_eq!(scene.balance().await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_database_fails_everyone_is_told() {
    let scene = Scene::new(64, 1000).await;
    scene.store.close().await;
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        tasks.spawn(issue(scene.pipeline.clone(), scene.request(16).0, 16));
    }
    for outcome in tasks.join_all().await {
        let Err(IssueError::Store(error)) = outcome else { panic!("{outcome:?}") };
        assert!(matches!(*error, StoreError::Database(_)), "{error:?}");
    }
    assert!(scene.pipeline.is_alive());
}
