//! The keys of the epochs under which the issuer answers now.

use std::sync::{Arc, RwLock};

use tocyn_protocol::directory::TokenKey;
use tocyn_protocol::issuance::Issuer;
use tocyn_protocol::pairing::{Epoch, Pairing};
use tocyn_protocol::schedule::ScheduleError;

/// Derives epoch keys from the pairing and keeps those that are in use.
pub struct Keyring {
    pairing: Pairing,
    keys: RwLock<Vec<(Epoch, Arc<Issuer>)>>,
    published: RwLock<Option<Arc<[TokenKey]>>>,
}

impl Keyring {
    /// A keyring of this pairing.
    pub fn new(pairing: Pairing) -> Self {
        Self { pairing, keys: RwLock::default(), published: RwLock::default() }
    }

    /// The pairing.
    pub fn pairing(&self) -> &Pairing {
        &self.pairing
    }

    /// The epochs whose requests are answered at `now`, each with its key: those that tokens
    /// are issued under first, then the last one, for repeats of what was charged in it.
    pub fn keys_at(&self, now: u64) -> Result<EpochKeys, ScheduleError> {
        let issuing = self.pairing.schedule().issuing_epochs(now)?;
        let current = issuing[0];
        let repeatable = current.checked_sub(1).filter(|epoch| !issuing.contains(epoch));
        let keys = issuing.iter().copied().chain(repeatable).map(|e| (e, self.key(e))).collect();
        self.keys.write().expect("no panic under the lock").retain(|(e, _)| *e + 1 >= current);
        Ok(EpochKeys { keys, issuing: issuing.len() })
    }

    /// The oldest epoch whose repeats are answered at `now`.
    pub fn oldest_at(&self, now: u64) -> Result<Epoch, ScheduleError> {
        Ok(self.pairing.schedule().issuing_epochs(now)?[0].saturating_sub(1))
    }

    fn key(&self, epoch: Epoch) -> Arc<Issuer> {
        let find = |keys: &[(Epoch, Arc<Issuer>)]| {
            keys.iter().find(|(e, _)| *e == epoch).map(|(_, key)| key.clone())
        };
        if let Some(key) = find(&self.keys.read().expect("no panic under the lock")) {
            return key;
        }
        let mut keys = self.keys.write().expect("no panic under the lock");
        find(&keys).unwrap_or_else(|| {
            let key = Arc::new(Issuer::new(self.pairing.key_pair(epoch)));
            keys.push((epoch, key.clone()));
            key
        })
    }

    /// The directory's entries: the current key, then the next, if there is one.
    pub fn published(&self, now: u64) -> Result<Arc<[TokenKey]>, ScheduleError> {
        let schedule = self.pairing.schedule();
        let listed = schedule.listed_by_issuer(now)?;
        let Some(current) = listed.first() else {
            return Err(ScheduleError::Ended { now, end: schedule.last_end() });
        };
        if let Some(keys) = &*self.published.read().expect("no panic under the lock")
            && keys[0].epoch == *current
        {
            return Ok(keys.clone());
        }
        let key = |epoch: &Epoch| TokenKey::for_epoch(&self.pairing, *epoch);
        let keys: Arc<[TokenKey]> = listed.iter().map(key).collect();
        *self.published.write().expect("no panic under the lock") = Some(keys.clone());
        Ok(keys)
    }
}

/// The keys at one moment.
pub struct EpochKeys {
    keys: Vec<(Epoch, Arc<Issuer>)>,
    issuing: usize,
}

impl EpochKeys {
    /// The epoch to issue under for a request that names its key by `truncated` id: the pairing's
    /// derivation never gives neighbouring epochs the same one. None where no key fits.
    pub fn issuing(&self, truncated: u8) -> Option<Epoch> {
        let mut issuing = self.keys[..self.issuing].iter();
        issuing.find(|(_, key)| key.key_id().truncated() == truncated).map(|(epoch, _)| *epoch)
    }

    /// The key of an epoch that requests are answered under, new ones or repeats.
    pub fn of_epoch(&self, epoch: Epoch) -> Option<Arc<Issuer>> {
        self.keys.iter().find(|(e, _)| *e == epoch).map(|(_, key)| key.clone())
    }

    /// The oldest epoch whose repeats are still answered.
    pub fn oldest(&self) -> Epoch {
        self.keys.iter().map(|(epoch, _)| *epoch).min().expect("there is a current epoch")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use getrandom::SysRng;
    use rand_core::UnwrapErr;

    #[test]
    fn a_key_serves_its_epoch_its_grace_and_its_repeats() {
        let pairing = Pairing::generate("i", "r", 1000, 100, &mut UnwrapErr(SysRng)).unwrap();
        let truncated = |epoch| pairing.key_pair(epoch).public().token_key_id().truncated();
        let keyring = Keyring::new(pairing.clone());
        assert!(keyring.keys_at(999).is_err());
        let keys = keyring.keys_at(1150).unwrap(); // 50 s into epoch 1
        assert_eq!(keys.issuing(truncated(0)), Some(0));
        assert_eq!(keys.issuing(truncated(1)), Some(1));
        let keys = keyring.keys_at(1160).unwrap(); // the grace is over
        assert_eq!(keys.issuing(truncated(1)), Some(1));
        assert_eq!(keys.issuing(truncated(0)), None);
        assert!(keys.of_epoch(0).is_some());
        assert_eq!((keys.oldest(), keyring.oldest_at(1160)), (0, Ok(0)));
        assert_eq!(keyring.keys_at(1250).unwrap().oldest(), keyring.oldest_at(1250).unwrap());
        assert!(keyring.keys_at(1200).unwrap().of_epoch(0).is_none());
    }
}
