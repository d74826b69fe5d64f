//! The keys of the epochs whose tokens are taken now.

use std::sync::{Arc, RwLock};

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
        let epochs = self.pairing.redeemable_epochs(now)?;
        if let Some(live) = &*self.current.read().expect("no panic under the lock")
            && live.epochs == epochs
        {
            return Ok(live.redeemer.clone());
        }
        let redeemer = Arc::new(Redeemer::new(&self.pairing, &epochs));
        let live = Live { epochs, redeemer: redeemer.clone() };
        *self.current.write().expect("no panic under the lock") = Some(live);
        Ok(redeemer)
    }

    /// The keys to publish: the current one, then the next, as the issuer's directory has them.
    pub fn published(&self, now: u64) -> Result<(Epoch, [TokenKey; 2]), PairingError> {
        let epoch = self.pairing.epoch_at(now)?;
        Ok((epoch, [epoch, epoch + 1].map(|e| TokenKey::for_epoch(&self.pairing, e))))
    }
}
