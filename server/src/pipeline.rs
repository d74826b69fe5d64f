//! Posts between HTTP and disk: verified in small batches on threads of their own, then stored by
//! one writer, in one transaction for all that are ready. Nothing waits for a batch to fill: an
//! idle relay takes a post alone, a busy one finds more of them each time it looks.
//!
//! A post takes one of `max_posts` places until it is answered, and is refused at once when none
//! is free. That bounds both queues.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures_util::FutureExt;
use tocyn_protocol::redemption::{Authorization, RedeemError, Redeemed};
use tocyn_protocol::relay::PostReceipt;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use crate::Clock;
use crate::epochs::Epochs;
use crate::head::Head;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::relay::{PostError, Posted};
use crate::store::{Message, SpendOutcome, Store, StoreError};
use tocyn_service::writing::Writing;

/// Tokens that one thread verifies together, at most.
const VERIFY_BATCH: usize = 64;
/// Tokens that the processor works on side by side. Batches are multiples of it where they can.
const VERIFY_LANES: usize = 8;
/// Posts in one transaction, but for what the last batch has above.
const COMMIT_BATCH: usize = 512;

/// Where the caller waits, and its place. Dropped unanswered, it says that a task died.
/// The place is free before the caller hears of it, who may have another post: hence the order.
struct Answer {
    place: OwnedSemaphorePermit,
    caller: oneshot::Sender<Result<Posted, PostError>>,
}

impl Answer {
    fn send(self, result: Result<Posted, PostError>) {
        drop(self.place);
        // Fails only if the caller is gone.
        let _ = self.caller.send(result);
    }
}

struct Job {
    authorization: Authorization,
    message: Message,
    answer: Answer,
}

type Verified = (Redeemed, Message, Answer);

/// The way in. The threads end when it is dropped and all posts are answered.
pub struct Pipeline {
    places: Arc<Semaphore>,
    jobs: UnboundedSender<Job>,
    /// Nothing is sent: it is closed when the writer has ended.
    writer: watch::Receiver<()>,
    writing: Arc<Writing<StoreError>>,
}

impl Pipeline {
    /// Starts the threads and the writer. `head` is told the newest sequence once per commit.
    pub fn start(
        max_posts: usize,
        epochs: Arc<Epochs>,
        store: Store,
        log: Arc<Log>,
        clock: Clock,
        head: Head,
        metrics: Metrics,
    ) -> Self {
        let (jobs, queue) = mpsc::unbounded_channel();
        let (verified, ready) = mpsc::unbounded_channel();
        let queue = Arc::new(Mutex::new(queue));
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..threads {
            let (queue, epochs) = (queue.clone(), epochs.clone());
            let (clock, verified) = (clock.clone(), verified.clone());
            std::thread::Builder::new()
                .name("verify".to_owned())
                .spawn(move || verify_forever(&queue, threads, &epochs, &clock, &verified))
                .expect("a thread can be started");
        }
        let (lives, writer) = watch::channel(());
        let writing = Arc::<Writing<StoreError>>::default();
        let committing =
            Writer { store, log, clock, head, metrics, writing: writing.clone(), _lives: lives };
        tokio::spawn(committing.commit_forever(ready));
        Self { places: Arc::new(Semaphore::new(max_posts)), jobs, writer, writing }
    }

    /// Posts that could be taken now.
    pub fn free_places(&self) -> usize {
        self.places.available_permits()
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

    /// Redeems the token for the message, spends it and stores the message. What this returns
    /// is durable. It goes on when the caller goes away.
    pub async fn post(
        &self,
        authorization: Authorization,
        message: Message,
    ) -> Result<Posted, PostError> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| PostError::Busy)?;
        let (caller, outcome) = oneshot::channel();
        let answer = Answer { place, caller };
        self.jobs.send(Job { authorization, message, answer }).map_err(|_| PostError::Internal)?;
        outcome.await.map_err(|_| PostError::Internal)?
    }
}

/// Takes what is there, verifies it, and hands on what is genuine.
fn verify_forever(
    queue: &Mutex<UnboundedReceiver<Job>>,
    threads: usize,
    epochs: &Epochs,
    clock: &Clock,
    verified: &UnboundedSender<Vec<Verified>>,
) {
    loop {
        let mut jobs = Vec::with_capacity(VERIFY_BATCH);
        {
            let mut queue = queue.lock().expect("no panic under the lock");
            // A fair share of what waits, so that no thread idles beside a full one.
            let share = queue.len().div_ceil(threads).next_multiple_of(VERIFY_LANES);
            if queue.blocking_recv_many(&mut jobs, share.clamp(VERIFY_LANES, VERIFY_BATCH)) == 0 {
                return;
            }
        }
        // What panics is a bug. These posts are answered 500, the next ones may do better.
        match catch_unwind(AssertUnwindSafe(|| verify(epochs, clock(), jobs))) {
            // Fails only if the writer is gone; the dropped answers say so.
            Ok(batch) => drop(verified.send(batch)),
            Err(_) => tracing::error!("a thread that verifies posts has panicked, and goes on"),
        }
    }
}

/// Answers those that are not genuine, and gives the others.
fn verify(epochs: &Epochs, now: u64, jobs: Vec<Job>) -> Vec<Verified> {
    let redeemer = match epochs.redeemer(now) {
        Ok(redeemer) => redeemer,
        Err(error) => {
            jobs.into_iter().for_each(|job| job.answer.send(Err(error.clone().into())));
            return Vec::new();
        }
    };
    let batch: Vec<_> = jobs.iter().map(|job| (&job.authorization, job.message.id())).collect();
    let results = redeemer.redeem_batch(&batch);
    let genuine = |(job, result): (Job, Result<Redeemed, _>)| match result {
        Ok(redeemed) => Some((redeemed, job.message, job.answer)),
        Err(error) => {
            job.answer.send(Err(PostError::from(error)));
            None
        }
    };
    jobs.into_iter().zip(results).filter_map(genuine).collect()
}

struct Writer {
    store: Store,
    log: Arc<Log>,
    clock: Clock,
    head: Head,
    metrics: Metrics,
    writing: Arc<Writing<StoreError>>,
    /// Dropped with the writer, however it ends.
    _lives: watch::Sender<()>,
}

impl Writer {
    /// Group commit: one transaction for all that are ready, then all are answered.
    async fn commit_forever(self, mut ready: UnboundedReceiver<Vec<Verified>>) {
        while let Some(mut taken) = ready.recv().await {
            while taken.len() < COMMIT_BATCH
                && let Ok(more) = ready.try_recv()
            {
                taken.extend(more);
            }
            // A panic is a bug. The dropped answers become 500; a retry finds out what was stored.
            // The whole round is in here: without a writer no later post can be stored.
            if AssertUnwindSafe(self.round(taken)).catch_unwind().await.is_err() {
                let _ = catch_unwind(|| tracing::error!("the writer has panicked, and goes on"));
            }
        }
    }

    async fn round(&self, taken: Vec<Verified>) {
        let (mut batch, mut answers) = (Vec::new(), Vec::new());
        for (redeemed, message, answer) in taken {
            batch.push((redeemed, message));
            answers.push(answer);
        }
        if batch.is_empty() {
            return;
        }
        match self.commit(&batch).await {
            Ok(results) => {
                for (answer, result) in answers.into_iter().zip(results) {
                    answer.send(result);
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                self.writing.failed(error.clone());
                for answer in answers {
                    answer.send(Err(PostError::Store(error.clone())));
                }
                error.log();
            }
        }
    }

    async fn commit(
        &self,
        batch: &[(Redeemed, Message)],
    ) -> Result<Vec<Result<Posted, PostError>>, StoreError> {
        let start = Instant::now();
        let outcomes = self.store.spend_and_append(batch, (self.clock)()).await?;
        self.metrics.committed(batch.len(), start.elapsed());
        let newest = outcomes.iter().rev().find_map(SpendOutcome::stored_seq);
        // Repeats write nothing: they are answered on a full disk, too.
        if let Some(newest) = newest {
            self.writing.succeeded();
            self.head.raise(newest);
        }
        Ok(prove(&self.log, outcomes).await)
    }
}

/// What each is told; those that are stored now get a proof that leads to one checkpoint.
async fn prove(log: &Log, outcomes: Vec<SpendOutcome>) -> Vec<Result<Posted, PostError>> {
    let stored = |outcome: &SpendOutcome| match outcome {
        SpendOutcome::Stored(receipt) => Some(*receipt),
        _ => None,
    };
    let stored: Vec<PostReceipt> = outcomes.iter().filter_map(stored).collect();
    let proven = log.prove_new(&stored).await.inspect_err(StoreError::log);
    let mut proven = proven.unwrap_or_default().into_iter();
    let result = |outcome| match outcome {
        SpendOutcome::Stored(_) => match proven.next() {
            Some(proven) => Ok(Posted::New(proven)),
            None => Err(PostError::Store(Arc::new(StoreError::NotProven))),
        },
        SpendOutcome::StoredBefore(receipt) => Ok(Posted::Before(receipt)),
        SpendOutcome::SpentOnAnother => Err(PostError::Spent),
        SpendOutcome::EpochClosed => Err(RedeemError::UnknownKey.into()),
        SpendOutcome::NoRoom => Err(PostError::Store(Arc::new(StoreError::EpochUnknown))),
    };
    outcomes.into_iter().map(result).collect()
}
