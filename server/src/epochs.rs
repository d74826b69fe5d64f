//! The keys of the epochs whose tokens are taken now.

use std::sync::{Arc, RwLock};

use tocyn_protocol::challenge::www_authenticate;
use tocyn_protocol::directory::TokenKey;
use tocyn_protocol::pairing::{Epoch, Pairing};
use tocyn_protocol::redemption::Redeemer;
use tocyn_protocol::schedule::ScheduleError;

/// Follows the clock from epoch to epoch.
pub struct Epochs {
    pairing: Pairing,
    current: RwLock<Option<Live>>,
}

#[derive(Clone)]
struct Live {
    epochs: Vec<Epoch>,
    redeemer: Arc<Redeemer>,
    published: Arc<Published>,
}

/// What the relay tells its clients about one epoch.
#[derive(Debug)]
pub struct Published {
    /// The current epoch.
    pub epoch: Epoch,
    /// The keys of the current epoch, of the next, and of the last one, whose tokens are still
    /// taken; each as the issuer's directory had it.
    pub token_keys: Vec<TokenKey>,
    /// The `WWW-Authenticate` value that asks for a token of the current epoch.
    pub www_authenticate: String,
}

impl Epochs {
    /// The epochs of a pairing.
    pub fn new(pairing: Pairing) -> Self {
        Self { pairing, current: RwLock::default() }
    }

    /// The pairing.
    pub fn pairing(&self) -> &Pairing {
        &self.pairing
    }

    /// The redeemer for the epochs that are live at `now` (unix seconds).
    pub fn redeemer(&self, now: u64) -> Result<Arc<Redeemer>, ScheduleError> {
        Ok(self.live(now)?.redeemer)
    }

    /// What to publish at `now`.
    pub fn published(&self, now: u64) -> Result<Arc<Published>, ScheduleError> {
        Ok(self.live(now)?.published)
    }

    /// Keys are derived when an epoch begins, not for each request.
    fn live(&self, now: u64) -> Result<Live, ScheduleError> {
        let schedule = self.pairing.schedule();
        // Past the last of them the log can still be read.
        let epochs = schedule.redeemable_epochs(now).or_else(none_if_ended)?;
        let current = schedule.epoch_at(now)?;
        if let Some(live) = &*self.current.read().expect("no panic under the lock")
            && live.epochs == epochs
            && live.published.epoch == current
        {
            return Ok(live.clone());
        }
        let redeemer = Arc::new(Redeemer::new(&self.pairing, &epochs));
        let published = Arc::new(self.publish(current));
        let live = Live { epochs, redeemer, published };
        *self.current.write().expect("no panic under the lock") = Some(live.clone());
        Ok(live)
    }

    fn publish(&self, epoch: Epoch) -> Published {
        let schedule = self.pairing.schedule();
        let listed = schedule.listed_by_origin(schedule.start(epoch)).unwrap_or_default();
        let key = |epoch| TokenKey::for_epoch(&self.pairing, epoch);
        let token_keys = listed.into_iter().map(key).collect();
        let key = self.pairing.key_pair(epoch);
        let www_authenticate = www_authenticate(&self.pairing.challenge(), key.public());
        Published { epoch, token_keys, www_authenticate }
    }
}

fn none_if_ended(error: ScheduleError) -> Result<Vec<Epoch>, ScheduleError> {
    match error {
        ScheduleError::Ended { .. } => Ok(Vec::new()),
        error => Err(error),
    }
}
