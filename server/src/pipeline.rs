//! Posts between HTTP and disk: verified in small batches on threads of their own, then stored by
//! one writer, in one transaction for all that are ready. Nothing waits for a batch to fill: an
//! idle relay takes a post alone, a busy one finds more of them each time it looks.
//!
//! Both queues are bounded. When the first is full a post is refused at once; the second makes
//! the threads wait, which fills the first.

use std::sync::{Arc, Mutex};

use tocyn_protocol::redemption::{Authorization, Redeemed};
use tokio::sync::{mpsc, oneshot, watch};

use crate::Clock;
use crate::epochs::Epochs;
use crate::relay::{PostError, Posted};
use crate::store::{Message, SpendOutcome, Store};

/// Tokens that one thread verifies together. More would save little: they share one inversion.
const VERIFY_BATCH: usize = 32;
/// Posts in one transaction, at most.
const COMMIT_BATCH: usize = 512;

type Answer = oneshot::Sender<Result<Posted, PostError>>;

struct Job {
    authorization: Authorization,
    message: Message,
    answer: Answer,
}

type Verified = (Redeemed, Message, Answer);

/// The way in. The threads end when it is dropped and all posts are answered.
pub struct Pipeline {
    jobs: mpsc::Sender<Job>,
}

impl Pipeline {
    /// Starts the threads and the writer. `head` is told the newest sequence once per commit.
    pub fn start(
        max_posts: usize,
        epochs: Arc<Epochs>,
        store: Store,
        clock: Clock,
        head: watch::Sender<Option<u64>>,
    ) -> Self {
        let (jobs, queue) = mpsc::channel(max_posts);
        let (verified, ready) = mpsc::channel(COMMIT_BATCH);
        let queue = Arc::new(Mutex::new(queue));
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..threads {
            let (queue, epochs) = (queue.clone(), epochs.clone());
            let (clock, verified) = (clock.clone(), verified.clone());
            std::thread::Builder::new()
                .name("verify".to_owned())
                .spawn(move || verify_forever(&queue, &epochs, &clock, &verified))
                .expect("a thread can be started");
        }
        tokio::spawn(commit_forever(ready, store, clock, head));
        Self { jobs }
    }

    /// Redeems the token for the message, spends it and stores the message. What this returns
    /// is durable. It goes on when the caller goes away.
    pub async fn post(
        &self,
        authorization: Authorization,
        message: Message,
    ) -> Result<Posted, PostError> {
        let (answer, outcome) = oneshot::channel();
        let job = Job { authorization, message, answer };
        self.jobs.try_send(job).map_err(|_| PostError::Busy)?;
        outcome.await.map_err(|_| PostError::Internal)?
    }
}

/// Takes what is there, verifies it, and hands on what is genuine.
fn verify_forever(
    queue: &Mutex<mpsc::Receiver<Job>>,
    epochs: &Epochs,
    clock: &Clock,
    verified: &mpsc::Sender<Verified>,
) {
    let mut jobs = Vec::with_capacity(VERIFY_BATCH);
    loop {
        let taken = queue
            .lock()
            .expect("no panic under the lock")
            .blocking_recv_many(&mut jobs, VERIFY_BATCH);
        if taken == 0 {
            return;
        }
        for (result, message, answer) in verify(epochs, clock(), &mut jobs) {
            match result {
                // Fails only if the writer is gone; the dropped answer says so.
                Ok(redeemed) => drop(verified.blocking_send((redeemed, message, answer))),
                // Fails only if the caller is gone.
                Err(error) => drop(answer.send(Err(error))),
            }
        }
    }
}

fn verify(
    epochs: &Epochs,
    now: u64,
    jobs: &mut Vec<Job>,
) -> Vec<(Result<Redeemed, PostError>, Message, Answer)> {
    let redeemer = match epochs.redeemer(now) {
        Ok(redeemer) => redeemer,
        Err(error) => {
            let refuse = |job: Job| (Err(error.clone().into()), job.message, job.answer);
            return jobs.drain(..).map(refuse).collect();
        }
    };
    let batch: Vec<_> = jobs.iter().map(|job| (&job.authorization, job.message.id())).collect();
    let results = redeemer.redeem_batch(&batch);
    jobs.drain(..)
        .zip(results)
        .map(|(job, result)| (result.map_err(PostError::from), job.message, job.answer))
        .collect()
}

/// Group commit: one transaction for all that are ready, then all are answered.
async fn commit_forever(
    mut ready: mpsc::Receiver<Verified>,
    store: Store,
    clock: Clock,
    head: watch::Sender<Option<u64>>,
) {
    let mut taken = Vec::with_capacity(COMMIT_BATCH);
    while ready.recv_many(&mut taken, COMMIT_BATCH).await > 0 {
        let (mut batch, mut answers) = (Vec::new(), Vec::new());
        for (redeemed, message, answer) in taken.drain(..) {
            batch.push((redeemed, message));
            answers.push(answer);
        }
        match store.spend_and_append(&batch, clock()).await {
            Ok(outcomes) => {
                let newest = outcomes.iter().rev().find_map(SpendOutcome::stored_seq);
                if let Some(newest) = newest {
                    head.send_replace(Some(newest));
                }
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    let _ = answer.send(outcome.into());
                }
            }
            Err(error) => {
                error.log();
                let error = Arc::new(error);
                for answer in answers {
                    let _ = answer.send(Err(PostError::Store(error.clone())));
                }
            }
        }
    }
}
