//! The keys that documents list, checked against a statement of keys. Which epochs must be listed
//! follows from the statement and the time, so that no list has room for a key of one's own.

use tocyn_protocol::directory::{IssuerDirectory, TokenKey};
use tocyn_protocol::keys::PublicKey;
use tocyn_protocol::pairing::Epoch;
use tocyn_protocol::relay::{ProvenKey, RelayInfo};
use tocyn_protocol::schedule::{CLOCK_TOLERANCE_SECONDS, Schedule, ScheduleError};
use tocyn_protocol::statement::Statement;

use crate::session::time_text;

/// Why the keys in a document are refused. Nothing was bought or spent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// Clocks that are more than a minute apart.
    #[error(
        "the clock of {who} shows {}, and this machine's {}: at most {CLOCK_TOLERANCE_SECONDS} s \
         apart is good. A service with a clock of its own could mark who asks when. Set this \
         machine's clock right, or tell the operator", time_text(*.theirs), time_text(*.ours)
    )]
    Clock {
        /// Whose.
        who: String,
        /// Unix seconds by it.
        theirs: u64,
        /// Unix seconds by ours.
        ours: u64,
    },
    /// There are no keys at this time.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// Other epochs than the time and the statement say.
    #[error(
        "{who} lists keys of the epochs {listed:?} where {expected:?} must be: a choice of keys could \
         mark who uses which. Tell the operator"
    )]
    Listed {
        /// Who.
        who: String,
        /// The epochs in its document.
        listed: Vec<Epoch>,
        /// Those that must be there.
        expected: Vec<Epoch>,
    },
    /// Times that the statement does not have.
    #[error(
        "{who} lists times of epoch {epoch} that are not those in the statement of keys; tell the operator"
    )]
    Times {
        /// Who.
        who: String,
        /// The epoch.
        epoch: Epoch,
    },
    /// A key that is not in the tree of the statement.
    #[error(
        "{who} shows a key of epoch {epoch} that is not in the relay's statement of keys: it could \
         mark you. Nothing was bought or spent; {}", match is_to_come {
            true => "that epoch is yet to come, so perhaps a planned renewal is not installed on both \
                sides: try again later, and if it stays, tell the operators",
            false => "tell the operators",
        }
    )]
    Unproven {
        /// Who.
        who: String,
        /// The epoch.
        epoch: Epoch,
        /// Whether the issuer lists it ahead: nothing is bought under it yet.
        is_to_come: bool,
    },
}

/// A key with its epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochKey {
    /// The public key.
    pub key: PublicKey,
    /// Its epoch.
    pub epoch: Epoch,
    /// First unix second of issuance.
    pub not_before: u64,
    /// First unix second at which the relay no longer takes its tokens.
    pub not_after: u64,
}

/// Refuses a document whose clock is not ours.
pub(crate) fn check_clock(who: &str, theirs: u64, ours: u64) -> Result<(), KeysError> {
    match theirs.abs_diff(ours) <= CLOCK_TOLERANCE_SECONDS {
        true => Ok(()),
        false => Err(KeysError::Clock { who: who.to_owned(), theirs, ours }),
    }
}

/// Refuses other epochs than those that must be listed, and other times than the schedule's.
fn check_list<'a>(
    who: &str,
    schedule: &Schedule,
    expected: Vec<Epoch>,
    listed: impl Iterator<Item = &'a TokenKey> + Clone,
) -> Result<(), KeysError> {
    let sorted = |mut epochs: Vec<Epoch>| {
        epochs.sort_unstable();
        epochs
    };
    let epochs: Vec<Epoch> = listed.clone().map(|key| key.epoch).collect();
    if sorted(epochs.clone()) != sorted(expected.clone()) {
        return Err(KeysError::Listed { who: who.to_owned(), listed: epochs, expected });
    }
    for key in listed {
        let times = (schedule.start(key.epoch), schedule.not_after(key.epoch));
        if (key.not_before, key.not_after) != times {
            return Err(KeysError::Times { who: who.to_owned(), epoch: key.epoch });
        }
    }
    Ok(())
}

fn epoch_key(key: PublicKey, epoch: Epoch, schedule: &Schedule) -> EpochKey {
    let (not_before, not_after) = (schedule.start(epoch), schedule.not_after(epoch));
    EpochKey { key, epoch, not_before, not_after }
}

/// What an origin's document shows, all of it proven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Keys that are proven under the pinned statement: tokens are bought and spent under these.
    pub pinned: Vec<EpochKey>,
    /// Keys that are proven under the newest statement.
    pub newest: Vec<EpochKey>,
}

/// Checks an origin's keys against its newest statement, and against the pinned one. The list must
/// be that of the document's own time, which [`check_clock`] has compared with ours.
pub(crate) fn check_origin(
    who: &str,
    info: &RelayInfo,
    newest: &Statement,
    pinned: &Statement,
) -> Result<Shown, KeysError> {
    let schedule = newest.schedule;
    let expected = schedule.listed_by_origin(info.now)?;
    check_list(who, &schedule, expected, info.token_keys.iter().map(|proven| &proven.key))?;
    let same_times = (pinned.schedule.genesis, pinned.schedule.epoch_seconds)
        == (schedule.genesis, schedule.epoch_seconds);
    let mut shown = Shown::default();
    for proven in &info.token_keys {
        let epoch = proven.key.epoch;
        let who = who.to_owned();
        let unproven = |_| KeysError::Unproven { who, epoch, is_to_come: false };
        let key = |statement| ProvenKey::verify(proven, epoch, statement);
        shown.newest.push(epoch_key(key(newest).map_err(unproven)?, epoch, &schedule));
        if same_times && let Ok(key) = key(pinned) {
            shown.pinned.push(epoch_key(key, epoch, &schedule));
        }
    }
    Ok(shown)
}

/// Checks an issuer's keys: each must be the one that the relay has proven for its epoch. Returns the
/// epochs that it lists.
pub(crate) fn check_issuer(
    who: &str,
    directory: &IssuerDirectory,
    newest: &Statement,
    shown: &Shown,
) -> Result<Vec<Epoch>, KeysError> {
    let expected = newest.schedule.listed_by_issuer(directory.now)?;
    check_list(who, &newest.schedule, expected.clone(), directory.token_keys.iter())?;
    for listed in &directory.token_keys {
        let epoch = listed.epoch;
        // A minute before or after a change the relay may not list the outer one; it is not used.
        let Some(proven) = shown.newest.iter().find(|key| key.epoch == epoch) else { continue };
        if listed.public_key().ok() != Some(proven.key) {
            let is_to_come = epoch > expected[0];
            return Err(KeysError::Unproven { who: who.to_owned(), epoch, is_to_come });
        }
    }
    Ok(expected)
}
