//! What the relay does with a post, on one screen.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tocyn_protocol::pairing::Pairing;
use tocyn_protocol::redemption::{Authorization, AuthorizationError, RedeemError};
use tocyn_protocol::relay::{PostReceipt, ProvenReceipt};
use tocyn_protocol::schedule::ScheduleError;
use tocyn_service::settled::SettledClock;
use tocyn_service::tally::Tally;
use tocyn_service::writing::PATIENCE;

use crate::Clock;
use crate::config::Config;
use crate::epochs::Epochs;
use crate::head::Head;
use crate::log::Log;
use crate::messages::Messages;
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::store::{Message, Store, StoreError};

/// Why a post is refused. The token is untouched unless it was spent before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostError {
    /// The header holds no usable token.
    #[error(transparent)]
    Authorization(#[from] AuthorizationError),
    /// The operator has turned the bearer form off.
    #[error("this relay takes tokens in the TocynBound form only")]
    BearerOff,
    /// The token does not pay for this message here and now.
    #[error(transparent)]
    Redeem(#[from] RedeemError),
    /// The token was spent on another message.
    #[error("this token was spent on another message; post with a fresh one")]
    Spent,
    /// The same token came again too often; wait this long.
    #[error("this post came again too often; wait {} s", .0.as_secs() + 1)]
    TooManyRepeats(Duration),
    /// Too many posts at once.
    #[error("the relay is busy; send the same post again")]
    Busy,
    /// The clock is before the pairing's start.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The database failed.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// A task died.
    #[error("the relay failed; send the same post again")]
    Internal,
}

/// A post that was stored, now or before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Posted {
    /// Stored now, and in the log that was signed after that.
    New(ProvenReceipt),
    /// The same message was stored before with the same token.
    Before(PostReceipt),
}

/// A token that passed the checks that cost nothing.
pub struct Admitted(Authorization);

/// The relay's parts.
pub struct Relay {
    /// The live epochs.
    pub epochs: Arc<Epochs>,
    /// Spent tokens and messages.
    pub store: Store,
    /// The messages, and where they lie.
    pub messages: Arc<Messages>,
    /// The tree over the messages.
    pub log: Arc<Log>,
    /// Unix seconds.
    pub clock: Clock,
    /// The clock that deletions go by.
    pub settled: SettledClock,
    /// The operator's settings.
    pub config: Config,
    /// The newest sequence.
    pub head: Head,
    /// What is counted.
    pub metrics: Metrics,
    pipeline: Pipeline,
    /// Spent tokens that came again: each costs as much as a post, and pays for nothing.
    repeats: Tally,
}

impl Relay {
    /// A relay on the messages of an open store, with the tree over them. Starts its threads.
    pub fn new(
        config: &Config,
        pairing: Pairing,
        messages: Messages,
        log: Log,
        clock: Clock,
    ) -> Self {
        let (messages, log) = (Arc::new(messages), Arc::new(log));
        let store = messages.store().clone();
        let config = config.clone();
        let settled = SettledClock::new(config.clock_patience);
        let epochs = Arc::new(Epochs::new(pairing));
        let (head, metrics) = (Head::default(), Metrics::default());
        let pipeline = Pipeline::start(
            config.limits.max_posts,
            epochs.clone(),
            store.clone(),
            log.clone(),
            clock.clone(),
            head.clone(),
            metrics.clone(),
        );
        let repeats = Tally::new(config.limits.max_repeats);
        Self {
            epochs,
            store,
            messages,
            log,
            clock,
            settled,
            config,
            head,
            metrics,
            pipeline,
            repeats,
        }
    }

    /// The checks that cost nothing, before the body is read: form, lengths, challenge, key id.
    pub fn admit(&self, authorization: &str) -> Result<Admitted, PostError> {
        let authorization = Authorization::parse(authorization)?;
        if matches!(authorization, Authorization::Bearer(_)) && !self.config.bearer {
            return Err(PostError::BearerOff);
        }
        self.epochs.redeemer((self.clock)())?.check(&authorization)?;
        match self.repeats.must_wait(authorization.nonce()) {
            Some(wait) => Err(PostError::TooManyRepeats(wait)),
            None => Ok(Admitted(authorization)),
        }
    }

    /// Redeems the token for the cell, then spends it and stores the message in one
    /// transaction, both in batches with others. What this returns is durable.
    pub async fn post(&self, admitted: Admitted, cell: Bytes) -> Result<Posted, PostError> {
        let nonce = *admitted.0.nonce();
        let posted = self.pipeline.post(admitted.0, Message::new(cell)).await;
        if let Ok(Posted::Before(_)) | Err(PostError::Spent) = &posted {
            self.repeats.count(&nonce);
        }
        let posted = posted?;
        let outcome = match posted {
            Posted::New(_) => "new",
            Posted::Before(_) => "repeat",
        };
        self.metrics.posts.get_or_create(&[("outcome", outcome)]).inc();
        Ok(posted)
    }

    /// Posts that wait for their answer.
    pub fn posts_in_work(&self) -> usize {
        self.config.limits.max_posts - self.pipeline.free_places()
    }

    /// Whether there is a writer that stores posts.
    pub fn is_alive(&self) -> bool {
        self.pipeline.is_alive()
    }

    /// Returns once the writer has ended.
    pub fn ended(&self) -> impl Future<Output = ()> + use<> {
        self.pipeline.ended()
    }

    /// Why no post can be stored now, as the last one could not; None if posts can be. Where none
    /// came for some time, tries a write of its own.
    pub async fn takes_no_posts(&self) -> Option<Arc<StoreError>> {
        let write = async |failed: Option<Arc<StoreError>>| {
            let was_full = matches!(failed.as_deref(), Some(StoreError::Full));
            let tried = tokio::time::timeout(PATIENCE, self.store.try_write(was_full)).await;
            tried.unwrap_or(Err(StoreError::Busy))
        };
        self.pipeline.writing().check(write).await
    }
}
