//! Token requests between HTTP and their answers. Threads of our own decode them; one writer
//! charges all that are decoded in one transaction; the threads evaluate what is charged. Nothing
//! waits for a batch to fill, and whose turn it is says `fair_queue`.
//!
//! A request is admitted or refused when it arrives. What is admitted holds a slot until it is
//! answered, so nothing behind the door can overflow.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use futures_util::FutureExt;
use sha2::{Digest, Sha256};
use tocyn_protocol::error::DecodeError;
use tocyn_protocol::issuance::Issuer;
use tocyn_protocol::schedule::ScheduleError;
use tocyn_service::writing::Writing;
use tokio::sync::{mpsc, oneshot, watch};

use crate::Clock;
use crate::asked::{Asked, Form, evaluate_many};
use crate::attester::Budgets;
use crate::attester::work::{Proof, solves};
use crate::config::Limits;
use crate::door::{Door, SMALL_TOKENS, Slot};
use crate::fair_queue::{FairQueue, Turn};
use crate::keyring::Keyring;
use crate::metrics::Metrics;
use crate::store::{Charge, Charged, Refusal, Rules, Store, StoreError};

/// Tokens that a thread evaluates before it looks again whose turn it is.
const EVALUATE_TOKENS: usize = SMALL_TOKENS;
/// Decoding is little work beside evaluating: a thread does it for this many times more tokens
/// at once, so that more requests come to be charged together.
const DECODED_PER_EVALUATED: usize = 8;
/// Charges in one transaction, at most.
const CHARGE_BATCH: usize = 512;

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// Too many requests at once.
    #[error("the issuer is busy; send the same request again")]
    Busy,
    /// The body is no token request.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// The voucher does not pay for it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// So many tokens are left of a budget, and so many seconds of the epoch.
    #[error("the budget of this epoch is spent but for {0} tokens; the next begins in {1} s")]
    BudgetSpent(u64, u64),
    /// The clock is before the pairing's start.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The proof of work is none.
    #[error("the proof of work is not for this request")]
    Unsolved,
    /// The database failed. Nothing was charged.
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
    /// A thread or a task died.
    #[error("the issuer failed; send the same request again")]
    Internal,
}

/// A request as it arrived.
pub struct Arrived {
    /// SHA-256 of the voucher's code.
    pub code_hash: [u8; 32],
    /// How to read the body.
    pub form: Form,
    /// The body.
    pub body: Bytes,
    /// Tokens that the body declares to ask for.
    pub tokens: usize,
    /// What it was worked for with, if it was.
    pub proof: Option<Proof>,
}

/// The one who waits for the answer.
struct Caller {
    answer: oneshot::Sender<Result<Vec<u8>, IssueError>>,
    turn: Turn,
    _slot: Slot,
}

impl Caller {
    /// Fails only if the caller is gone: its repeat will be answered.
    fn answer(self, result: Result<Vec<u8>, IssueError>) {
        let _ = self.answer.send(result);
    }
}

enum Job {
    Decode(Arrived, Caller),
    Evaluate(Asked, Arc<Issuer>, Caller),
}

struct Decoded {
    asked: Asked,
    code_hash: [u8; 32],
    body_hash: [u8; 32],
    caller: Caller,
}

/// The way in. Threads and writer end when it is dropped and all requests are answered.
pub struct Pipeline {
    queue: Arc<FairQueue<Job>>,
    door: Door,
    /// Nothing is sent: it is closed when the writer has ended.
    writer: watch::Receiver<()>,
    writing: Arc<Writing<StoreError>>,
}

impl Pipeline {
    /// Starts the threads and the writer.
    pub fn start(
        limits: &Limits,
        budgets: Budgets,
        keyring: Arc<Keyring>,
        store: Store,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let queue = Arc::new(FairQueue::new(threads, EVALUATE_TOKENS));
        let (decoded, ready) = mpsc::channel(limits.max_evaluations);
        for _ in 0..threads {
            let (queue, decoded) = (queue.clone(), decoded.clone());
            std::thread::Builder::new()
                .name("evaluate".to_owned())
                .spawn(move || work_forever(&queue, |jobs| work(jobs, &decoded)))
                .expect("a thread can be started");
        }
        let (limits, max_evaluations) = (limits.clone(), limits.max_evaluations);
        let (lives, writer) = watch::channel(());
        let writing = Arc::<Writing<StoreError>>::default();
        let charging = Writer {
            keyring,
            store,
            clock,
            limits,
            budgets,
            metrics,
            queue: queue.clone(),
            writing: writing.clone(),
            _lives: lives,
        };
        tokio::spawn(charging.charge_forever(ready));
        Self { queue, door: Door::new(max_evaluations), writer, writing }
    }

    /// Decodes the request, charges its voucher and evaluates it; gives the response's body.
    /// It goes on when the caller goes away, but is not evaluated for nobody: what was charged
    /// is answered when it is sent again.
    pub async fn issue(&self, request: Arrived) -> Result<Vec<u8>, IssueError> {
        let slot = self.door.admit(request.tokens).ok_or(IssueError::Busy)?;
        let (answer, outcome) = oneshot::channel();
        let turn = self.queue.arrive(request.tokens);
        let work = request.tokens.div_ceil(DECODED_PER_EVALUATED);
        self.queue.push(turn, work, Job::Decode(request, Caller { answer, turn, _slot: slot }));
        outcome.await.map_err(|_| IssueError::Internal)?
    }

    /// Requests that wait for their answer.
    pub fn in_work(&self) -> usize {
        self.door.taken()
    }

    /// Whether there is a writer.
    pub fn is_alive(&self) -> bool {
        self.writer.has_changed().is_ok()
    }

    /// Returns once the writer has ended, which it does not while this is there.
    pub fn ended(&self) -> impl Future<Output = ()> + use<> {
        let mut writer = self.writer.clone();
        async move { while writer.changed().await.is_ok() {} }
    }

    /// Result of the last transaction.
    pub fn writing(&self) -> &Writing<StoreError> {
        &self.writing
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Works on what is there until the queue is closed. A panic costs the requests in hand, whose
/// callers are told by their dropped answers, but not the thread.
fn work_forever<T>(queue: &FairQueue<T>, work: impl Fn(Vec<T>)) {
    loop {
        let jobs = queue.take();
        if jobs.is_empty() {
            return;
        }
        if catch_unwind(AssertUnwindSafe(|| work(jobs))).is_err() {
            tracing::error!("a request made the issuer panic; please report it");
        }
    }
}

fn work(jobs: Vec<Job>, decoded: &mpsc::Sender<Decoded>) {
    let (mut charged, mut callers) = (Vec::new(), Vec::new());
    for job in jobs {
        match job {
            Job::Decode(_, caller) | Job::Evaluate(_, _, caller) if caller.answer.is_closed() => {}
            // Before the elements, which cost more.
            Job::Decode(request, caller)
                if request.proof.as_ref().is_some_and(|proof| !solves(proof, &request.body)) =>
            {
                caller.answer(Err(IssueError::Unsolved));
            }
            Job::Decode(request, caller) => match Asked::decode(request.form, &request.body) {
                Ok(asked) => {
                    let (code_hash, body_hash) =
                        (request.code_hash, Sha256::digest(&request.body).into());
                    // There is room for all that have a slot: fails only if the writer is gone.
                    let _ = decoded.try_send(Decoded { asked, code_hash, body_hash, caller });
                }
                Err(error) => caller.answer(Err(error.into())),
            },
            Job::Evaluate(asked, key, caller) => {
                charged.push((asked, key));
                callers.push(caller);
            }
        }
    }
    for (caller, response) in callers.into_iter().zip(evaluate_many(&charged)) {
        caller.answer(Ok(response));
    }
}

struct Writer {
    keyring: Arc<Keyring>,
    store: Store,
    clock: Clock,
    limits: Limits,
    budgets: Budgets,
    metrics: Metrics,
    queue: Arc<FairQueue<Job>>,
    writing: Arc<Writing<StoreError>>,
    /// Dropped with the writer, however it ends.
    _lives: watch::Sender<()>,
}

impl Writer {
    /// Group commit: one transaction for all that are decoded. What it charged goes back to the
    /// threads, the others are told why not.
    async fn charge_forever(self, mut ready: mpsc::Receiver<Decoded>) {
        let mut requests = Vec::new();
        while ready.recv_many(&mut requests, CHARGE_BATCH).await > 0 {
            // What panics is a bug. These requests are answered 500, the next ones may do better.
            // The whole round is in here: without a writer no later request can be charged.
            let round = self.round(std::mem::take(&mut requests));
            if AssertUnwindSafe(round).catch_unwind().await.is_err() {
                let _ = catch_unwind(|| tracing::error!("the writer has panicked, and goes on"));
            }
        }
    }

    async fn round(&self, requests: Vec<Decoded>) {
        let outcomes = self.charge(&requests).await;
        for (request, outcome) in requests.into_iter().zip(outcomes) {
            let Decoded { asked, caller, .. } = request;
            match outcome {
                Ok(key) => {
                    let (turn, tokens) = (caller.turn, asked.tokens());
                    self.queue.push(turn, tokens, Job::Evaluate(asked, key, caller));
                }
                Err(error) => caller.answer(Err(error)),
            }
        }
    }

    /// Charges all, or none if the clock or the database fails; gives the keys to answer under.
    async fn charge(&self, requests: &[Decoded]) -> Vec<Result<Arc<Issuer>, IssueError>> {
        let now = (self.clock)();
        let keys = match self.keyring.keys_at(now) {
            Ok(keys) => keys,
            Err(error) => return requests.iter().map(|_| Err(error.clone().into())).collect(),
        };
        let rules = Rules {
            max_replays: self.limits.max_replays,
            replay_window_seconds: self.limits.replay_window.as_secs(),
            oldest_epoch: keys.oldest(),
            budgets: self.budgets,
        };
        let charge = |request: &Decoded| Charge {
            code_hash: request.code_hash,
            body_hash: request.body_hash,
            tokens: request.asked.tokens(),
            epoch: keys.issuing(request.asked.truncated_token_key_id()),
        };
        let charges: Vec<Charge> = requests.iter().map(charge).collect();
        let start = Instant::now();
        let outcomes = match self.store.charge_batch(&charges, rules, now).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                error.log();
                let error = Arc::new(error);
                self.writing.failed(error.clone());
                return requests.iter().map(|_| Err(error.clone().into())).collect();
            }
        };
        // Refusals write nothing.
        if outcomes.iter().any(Result::is_ok) {
            self.writing.succeeded();
        }
        self.metrics.charged(charges.len(), start.elapsed());
        let key = |(request, outcome): (&Decoded, Charged)| {
            let pairing = self.keyring.pairing();
            let refused = |refusal| match refusal {
                Refusal::BudgetSpent(left) => {
                    let end = pairing
                        .schedule()
                        .epoch_at(now)
                        .map_or(now, |epoch| pairing.schedule().end(epoch));
                    IssueError::BudgetSpent(left, end.saturating_sub(now).max(1))
                }
                refusal => refusal.into(),
            };
            let key = keys.of_epoch(outcome.map_err(refused)?);
            key.filter(|key| key.key_id().truncated() == request.asked.truncated_token_key_id())
                .ok_or(IssueError::Refused(Refusal::UnknownKey))
        };
        requests.iter().zip(outcomes).map(key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_costs_the_jobs_in_hand_and_nothing_else() {
        let queue = FairQueue::new(1, 1);
        let answers: Vec<_> = ["good", "bad", "good"]
            .map(|word| {
                let (answer, outcome) = oneshot::channel();
                queue.push(queue.arrive(1), 1, (word, answer));
                outcome
            })
            .into();
        queue.close();
        work_forever(&queue, |jobs| {
            for (word, answer) in jobs {
                assert_eq!(word, "good", "this panic is part of the test");
                answer.send(word).unwrap();
            }
        });
        let outcomes: Vec<_> = answers.into_iter().map(|answer| answer.blocking_recv()).collect();
        assert!(matches!(outcomes[..], [Ok("good"), Err(_), Ok("good")]), "{outcomes:?}");
    }
}
