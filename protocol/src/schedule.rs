//! Epochs on the clock: which one is now, whose tokens are issued, whose are taken. No clock here:
//! every function takes the time.

use std::time::Duration;

/// Number of a key period, counted from the genesis.
pub type Epoch = u64;

/// How long the issuer still answers under the epoch before, for requests in flight, in seconds.
pub const ISSUING_GRACE_SECONDS: u64 = 60;
/// How far two clocks may be apart, in seconds.
pub const CLOCK_TOLERANCE_SECONDS: u64 = 60;
/// The shortest epoch, in seconds: below this nobody could spend what they bought.
pub const MIN_EPOCH_SECONDS: u64 = 1;
/// The longest epoch, in seconds: ten years.
pub const MAX_EPOCH_SECONDS: u64 = TEN_YEARS_SECONDS;
/// The latest start of epoch 0, in unix seconds: so that all times of a schedule fit an `i64`.
pub const MAX_GENESIS: u64 = i64::MAX as u64 / 2;
/// The fewest epochs of a schedule: ten years of weeks.
pub const MIN_EPOCHS: u64 = 520;
/// The most epochs of a schedule: their tree is built at each start of an origin.
pub const MAX_EPOCHS: u64 = 65_536;

/// Operators are told to renew a pairing whose last key ends within this time, in seconds: 90 days.
const KEYS_END_SOON_SECONDS: u64 = 90 * 86_400;
const TEN_YEARS_SECONDS: u64 = 10 * 366 * 86_400;

/// A clock shows a time at which there are no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// A time before the first epoch.
    #[error(
        "the clock shows {now}, before the pairing's genesis at {genesis}; set the clock right"
    )]
    BeforeGenesis {
        /// Unix seconds asked for.
        now: u64,
        /// Unix seconds of the pairing's start.
        genesis: u64,
    },
    /// A time after the last epoch.
    #[error(
        "the clock shows {now}, and the pairing's last key ended at {end}; the issuer's operator \
         renews the pairing with `tocyn-issuer pairing renew`"
    )]
    Ended {
        /// Unix seconds asked for.
        now: u64,
        /// Unix seconds at which the last key ended.
        end: u64,
    },
}

/// When a new batch may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purchase {
    /// Now, under this epoch's key.
    Now(Epoch),
    /// Not yet: the epoch changes, or has just changed.
    After(Duration),
}

/// Start, length and number of the epochs of a pairing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Start of epoch 0 in unix seconds.
    pub genesis: u64,
    /// Length of an epoch in seconds, 1 to ten years.
    pub epoch_seconds: u64,
    /// Number of epochs, 1 to [`MAX_EPOCHS`].
    pub count: u64,
}

impl Schedule {
    /// Enough epochs of this length for ten years from the epoch `first` on, at least 520 and at
    /// most 65,536.
    pub fn count_for(epoch_seconds: u64, first: Epoch) -> u64 {
        let ten_years = TEN_YEARS_SECONDS.div_ceil(epoch_seconds.max(1));
        first.saturating_add(ten_years).clamp(MIN_EPOCHS, MAX_EPOCHS)
    }

    /// The epoch at `now` (unix seconds): floor((now - genesis) / epoch_seconds). It has a key only
    /// if it is below `count`.
    pub fn epoch_at(&self, now: u64) -> Result<Epoch, ScheduleError> {
        match now.checked_sub(self.genesis) {
            Some(age) => Ok(age / self.epoch_seconds),
            None => Err(ScheduleError::BeforeGenesis { now, genesis: self.genesis }),
        }
    }

    /// First second of an epoch, in unix seconds.
    pub fn start(&self, epoch: Epoch) -> u64 {
        self.genesis.saturating_add(epoch.saturating_mul(self.epoch_seconds))
    }

    /// First second after an epoch, in unix seconds.
    pub fn end(&self, epoch: Epoch) -> u64 {
        self.start(epoch.saturating_add(1))
    }

    /// First second at which the tokens of an epoch are no longer taken, in unix seconds: they live
    /// until the end of the epoch after.
    pub fn not_after(&self, epoch: Epoch) -> u64 {
        self.end(epoch.saturating_add(1))
    }

    /// First second after the last epoch that has a key, in unix seconds.
    pub fn last_end(&self) -> u64 {
        self.start(self.count)
    }

    /// Seconds until the last key ends.
    pub fn left(&self, now: u64) -> u64 {
        self.last_end().saturating_sub(now)
    }

    /// From when on it is time to renew the pairing, in unix seconds: 90 days before the last key
    /// ends, or a tenth of the whole time where that is shorter.
    pub fn renew_from(&self) -> u64 {
        let tenth = self.count.saturating_mul(self.epoch_seconds) / 10;
        self.last_end().saturating_sub(KEYS_END_SOON_SECONDS.min(tenth))
    }

    /// Whether a planned renewal brings keys for later epochs. Not where there are as many as there
    /// may be, with epochs shorter than 81 minutes.
    pub fn can_grow(&self) -> bool {
        self.count < MAX_EPOCHS
    }

    /// The epochs that the issuer answers under: the current one first, and for the first 60 seconds
    /// the one before.
    pub fn issuing_epochs(&self, now: u64) -> Result<Vec<Epoch>, ScheduleError> {
        let current = self.epoch_at(now)?;
        let in_grace = now - self.start(current) < ISSUING_GRACE_SECONDS;
        self.existing(now, [Some(current), current.checked_sub(1).filter(|_| in_grace)])
    }

    /// The epochs whose tokens are taken, in rising order: the one before, the current one, and in
    /// the current one's last 60 seconds the next.
    pub fn redeemable_epochs(&self, now: u64) -> Result<Vec<Epoch>, ScheduleError> {
        let current = self.epoch_at(now)?;
        let next = self.epoch_at(now.saturating_add(CLOCK_TOLERANCE_SECONDS))?;
        let next = current.checked_add(1).filter(|_| next > current);
        self.existing(now, [current.checked_sub(1), Some(current), next])
    }

    /// What an issuer's directory lists at `now`: the current epoch and the next.
    pub fn listed_by_issuer(&self, now: u64) -> Result<Vec<Epoch>, ScheduleError> {
        let current = self.epoch_at(now)?;
        Ok(self.with_key([Some(current), current.checked_add(1)]))
    }

    /// What an origin's info document lists at `now`: the current epoch, the next, and the one
    /// before.
    pub fn listed_by_origin(&self, now: u64) -> Result<Vec<Epoch>, ScheduleError> {
        let current = self.epoch_at(now)?;
        Ok(self.with_key([Some(current), current.checked_add(1), current.checked_sub(1)]))
    }

    /// Time on both sides of a change of epochs in which no new batch is made: 60 seconds, or a
    /// tenth of an epoch where that is shorter. So nobody is known by a clock that is off.
    pub fn quiet_time(&self) -> Duration {
        Duration::from_secs(CLOCK_TOLERANCE_SECONDS)
            .min(Duration::from_millis(self.epoch_seconds.saturating_mul(100)))
    }

    /// Under which epoch a new batch is made at `now`, the time since the unix epoch; or how long to
    /// wait until it may be made.
    pub fn purchase(&self, now: Duration) -> Result<Purchase, ScheduleError> {
        let epoch = self.epoch_at(now.as_secs())?;
        if epoch >= self.count {
            return Err(ScheduleError::Ended { now: now.as_secs(), end: self.last_end() });
        }
        let quiet = self.quiet_time();
        let (start, end) =
            (Duration::from_secs(self.start(epoch)), Duration::from_secs(self.end(epoch)));
        Ok(match () {
            // The first epoch has none before it that a clock could still be in.
            () if epoch > 0 && now < start + quiet => Purchase::After(start + quiet - now),
            () if now + quiet >= end => Purchase::After(end + quiet - now),
            () => Purchase::Now(epoch),
        })
    }

    fn with_key(&self, epochs: impl IntoIterator<Item = Option<Epoch>>) -> Vec<Epoch> {
        epochs.into_iter().flatten().filter(|epoch| *epoch < self.count).collect()
    }

    fn existing(
        &self,
        now: u64,
        epochs: impl IntoIterator<Item = Option<Epoch>>,
    ) -> Result<Vec<Epoch>, ScheduleError> {
        let epochs = self.with_key(epochs);
        match epochs.is_empty() {
            true => Err(ScheduleError::Ended { now, end: self.last_end() }),
            false => Ok(epochs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEKS: Schedule = Schedule { genesis: 1000, epoch_seconds: 1000, count: 3 };

    #[test]
    fn ten_years_within_bounds() {
        assert_eq!(Schedule::count_for(7 * 86_400, 0), 523);
        assert_eq!(Schedule::count_for(86_400, 0), 3660);
        assert_eq!(Schedule::count_for(MAX_EPOCH_SECONDS, 0), MIN_EPOCHS);
        assert_eq!(Schedule::count_for(1, 0), MAX_EPOCHS);
        assert_eq!(Schedule::count_for(7 * 86_400, 100), 623);
    }

    #[test]
    fn a_pairing_is_renewed_in_time() {
        let day = 86_400;
        let weeks = Schedule { genesis: 0, epoch_seconds: 7 * day, count: 523 };
        assert_eq!(weeks.renew_from(), weeks.last_end() - 90 * day);
        let minutes = Schedule { genesis: 0, epoch_seconds: 60, count: MAX_EPOCHS };
        assert_eq!(minutes.renew_from(), 60 * MAX_EPOCHS - 393_216);
        assert!(weeks.can_grow() && !minutes.can_grow());
    }

    #[test]
    fn lists_have_no_epoch_without_a_key() {
        assert_eq!(WEEKS.listed_by_origin(1000).unwrap(), [0, 1]);
        assert_eq!(WEEKS.listed_by_origin(2000).unwrap(), [1, 2, 0]);
        assert_eq!(WEEKS.listed_by_origin(3000).unwrap(), [2, 1]);
        assert_eq!(WEEKS.listed_by_issuer(3000).unwrap(), [2]);
        assert_eq!(WEEKS.listed_by_issuer(4000).unwrap(), []);
        assert!(WEEKS.listed_by_issuer(999).is_err());
    }

    #[test]
    fn the_last_tokens_live_as_long_as_others() {
        assert_eq!(WEEKS.redeemable_epochs(4999).unwrap(), [2]);
        let ended = ScheduleError::Ended { now: 5000, end: 4000 };
        assert_eq!(WEEKS.redeemable_epochs(5000), Err(ended.clone()));
        assert_eq!(WEEKS.issuing_epochs(4059).unwrap(), [2]);
        assert!(WEEKS.issuing_epochs(4060).is_err());
        assert_eq!(WEEKS.purchase(Duration::from_secs(5000)), Err(ended));
    }

    #[test]
    fn no_batch_is_made_beside_a_change() {
        let at = |seconds| WEEKS.purchase(Duration::from_secs_f64(seconds)).unwrap();
        let after = |seconds| Purchase::After(Duration::from_secs_f64(seconds));
        assert_eq!(at(1000.0), Purchase::Now(0));
        assert_eq!(at(1939.5), Purchase::Now(0));
        assert_eq!(at(1940.0), after(120.0));
        assert_eq!(at(1999.5), after(60.5));
        assert_eq!(at(2000.0), after(60.0));
        assert_eq!(at(2060.0), Purchase::Now(1));
        let short = Schedule { epoch_seconds: 10, ..WEEKS };
        assert_eq!(short.quiet_time(), Duration::from_secs(1));
        assert_eq!(short.purchase(Duration::from_millis(1_009_500)).unwrap(), after(1.5));
    }
}
