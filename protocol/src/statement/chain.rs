//! An origin's statements, each of which names the one before.

use super::{Commitment, Signed, Statement};
use crate::error::DecodeError;
use crate::log::note::{NoteError, VerifierKey};

/// The most statements that an origin hands out: its newest ones.
pub const MAX_STATEMENTS: usize = 64;

/// Why an origin's statements are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// One of them is no statement of this origin.
    #[error("a statement of keys cannot be used: {0}")]
    Note(#[from] NoteError),
    /// They are no chain.
    #[error("the statements of keys do not follow from each other: {0}")]
    Broken(&'static str),
}

impl From<DecodeError> for ChainError {
    fn from(error: DecodeError) -> Self {
        NoteError::from(error).into()
    }
}

/// How a chain stands to the statement that a client has pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It ends with the pinned statement.
    Same,
    /// It goes on from the pinned statement.
    GoesOn,
    /// It has another statement of the same serial: signed evidence.
    Contradicts(Box<Signed>),
    /// It ends before the pinned statement.
    Older,
    /// It begins after the pinned statement, and nothing in it leads there.
    TooNew,
}

/// 1 to 64 statements of one origin, with serials that rise by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain(Vec<Signed>);

impl Chain {
    /// Checks that each is signed by this key and names the one before, for the same pair, and that
    /// no epoch has two keys at one time: within one genesis the length stays and no epoch goes; a
    /// new genesis is later.
    pub fn open(notes: &[String], key: &VerifierKey) -> Result<Self, ChainError> {
        if notes.is_empty() || notes.len() > MAX_STATEMENTS {
            return Err(ChainError::Broken("there must be 1 to 64 of them"));
        }
        let statements: Vec<Signed> =
            notes.iter().map(|note| Signed::open(note, key)).collect::<Result<_, _>>()?;
        for pair in statements.windows(2) {
            follows(&pair[0], &pair[1])?;
        }
        Ok(Self(statements))
    }

    /// The newest one.
    pub fn newest(&self) -> &Signed {
        self.0.last().expect("a chain has a statement")
    }

    /// All, in rising order.
    pub fn statements(&self) -> &[Signed] {
        &self.0
    }

    /// The one with this serial.
    pub fn get(&self, serial: u64) -> Option<&Signed> {
        self.0.get(usize::try_from(serial.checked_sub(self.0[0].serial)?).ok()?)
    }

    /// Checks that its first statement may follow this one.
    pub fn check_start(&self, pinned: &Signed) -> Result<(), ChainError> {
        match self.0[0].serial > pinned.serial {
            true => follows(pinned, &self.0[0]),
            false => Ok(()),
        }
    }

    /// How it stands to a pinned statement.
    pub fn standing(&self, pinned: Commitment) -> Standing {
        match self.get(pinned.serial) {
            Some(shown) if shown.commitment() != pinned => {
                Standing::Contradicts(Box::new(shown.clone()))
            }
            Some(shown) if shown == self.newest() => Standing::Same,
            Some(_) => Standing::GoesOn,
            None if self.newest().serial < pinned.serial => Standing::Older,
            // The first one of the chain may name it.
            None if self.0[0].previous == Some(pinned.hash)
                && self.0[0].serial == pinned.serial + 1 =>
            {
                Standing::GoesOn
            }
            None => Standing::TooNew,
        }
    }
}

/// Checks that one statement may follow the other: what clients ask of each pair.
pub fn follows(earlier: &Signed, later: &Statement) -> Result<(), ChainError> {
    let (old, new) = (earlier.schedule, later.schedule);
    let broken = |why| Err(ChainError::Broken(why));
    match () {
        () if later.serial != earlier.serial + 1 => broken("a serial is missing"),
        () if later.previous != Some(earlier.commitment().hash) => {
            broken("one does not name the one before")
        }
        () if later.issuer_name != earlier.issuer_name => broken("they name different issuers"),
        () if new.genesis < old.genesis => broken("a genesis is before an earlier one"),
        () if new.genesis == old.genesis
            && (new.epoch_seconds != old.epoch_seconds || new.count < old.count) =>
        {
            broken("the times of epochs have changed")
        }
        () => Ok(()),
    }
}
