//! What the relay does with a post, on one screen.

use std::sync::Arc;

use bytes::Bytes;
use tocyn_protocol::pairing::PairingError;
use tocyn_protocol::redemption::{Authorization, AuthorizationError, RedeemError, Redeemer};
use tocyn_protocol::relay::PostReceipt;
use tokio::sync::{Semaphore, watch};

use crate::Clock;
use crate::config::Config;
use crate::epochs::Epochs;
use crate::store::{Message, SpendOutcome, Store, StoreError};

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
    /// Too many posts at once.
    #[error("the relay is busy; send the same post again")]
    Busy,
    /// The clock is before the pairing's start.
    #[error(transparent)]
    Pairing(#[from] PairingError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A task died.
    #[error("the relay failed; send the same post again")]
    Internal,
}

/// A post that was stored, now or before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// Stored now.
    New(PostReceipt),
    /// The same message was stored before with the same token.
    Before(PostReceipt),
}

/// A token that passed the checks that cost nothing.
pub struct Admitted {
    authorization: Authorization,
    redeemer: Arc<Redeemer>,
}

/// The relay's parts.
pub struct Relay {
    /// The live epochs.
    pub epochs: Epochs,
    /// Spent tokens and messages.
    pub store: Store,
    /// Unix seconds.
    pub clock: Clock,
    /// The operator's settings.
    pub config: Config,
    posts: Semaphore,
    head: watch::Sender<u64>,
}

impl Relay {
    /// A relay on an open store.
    pub fn new(
        config: &Config,
        pairing: tocyn_protocol::pairing::Pairing,
        store: Store,
        clock: Clock,
    ) -> Self {
        let config = config.clone();
        let posts = Semaphore::new(config.limits.max_posts);
        let (head, _) = watch::channel(0);
        Self { epochs: Epochs::new(pairing), store, clock, config, posts, head }
    }

    /// Wakes whenever messages were stored. The value is a hint; the store has the truth.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// The checks that cost nothing, before the body is read: form, lengths, challenge, key id.
    pub fn admit(&self, authorization: &str) -> Result<Admitted, PostError> {
        let authorization = Authorization::parse(authorization)?;
        if matches!(authorization, Authorization::Bearer(_)) && !self.config.bearer {
            return Err(PostError::BearerOff);
        }
        let redeemer = self.epochs.redeemer((self.clock)())?;
        redeemer.check(&authorization)?;
        Ok(Admitted { authorization, redeemer })
    }

    /// Redeems the token for the cell, then spends it and stores the message in one
    /// transaction. What this returns is durable.
    pub async fn post(&self, admitted: Admitted, cell: Bytes) -> Result<Posted, PostError> {
        let _permit = self.posts.try_acquire().map_err(|_| PostError::Busy)?;
        let message = Message::new(cell);
        let id = message.id();
        let redeemed = tokio::task::spawn_blocking(move || {
            admitted.redeemer.redeem(&admitted.authorization, &id)
        })
        .await
        .map_err(|_| PostError::Internal)??;

        let (store, now) = (self.store.clone(), (self.clock)());
        // A task of its own: a client that goes away does not stop a transaction half way.
        let outcomes =
            tokio::spawn(async move { store.spend_and_append(&[(redeemed, message)], now).await })
                .await
                .map_err(|_| PostError::Internal)??;
        match outcomes[0] {
            SpendOutcome::Stored(receipt) => {
                self.head.send_modify(|head| *head = receipt.seq.max(*head));
                Ok(Posted::New(receipt))
            }
            SpendOutcome::StoredBefore(receipt) => Ok(Posted::Before(receipt)),
            SpendOutcome::SpentOnAnother => Err(PostError::Spent),
            SpendOutcome::EpochClosed => Err(RedeemError::UnknownKey.into()),
        }
    }
}
