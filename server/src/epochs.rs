//! The keys of the epochs whose tokens are taken now.

use std::sync::{Arc, RwLock};

use tocyn_protocol::challenge::www_authenticate;
use tocyn_protocol::directory::TokenKey;
use tocyn_protocol::pairing::{Epoch, Pairing, PairingError};
use tocyn_protocol::redemption::Redeemer;

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
    pub fn redeemer(&self, now: u64) -> Result<Arc<Redeemer>, PairingError> {
        Ok(self.live(now)?.redeemer)
    }

    /// What to publish at `now`.
    pub fn published(&self, now: u64) -> Result<Arc<Published>, PairingError> {
        Ok(self.live(now)?.published)
    }

    /// Keys are derived when an epoch begins, not for each request.
    fn live(&self, now: u64) -> Result<Live, PairingError> {
        let epochs = self.pairing.redeemable_epochs(now)?;
        let current = self.pairing.epoch_at(now)?;
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
        let token_keys = [Some(epoch), Some(epoch + 1), epoch.checked_sub(1)]
            .into_iter()
            .flatten()
            .map(|epoch| TokenKey::for_epoch(&self.pairing, epoch))
            .collect();
        let key = self.pairing.key_pair(epoch);
        let www_authenticate = www_authenticate(&self.pairing.challenge(), key.public());
        Published { epoch, token_keys, www_authenticate }
    }
}
