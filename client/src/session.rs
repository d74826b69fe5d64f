//! What every step of a command shares: the wallet, the clock, and whom to tell.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use crate::printable::Printable;
use crate::renewal::Renewal;
use crate::wallet::Wallet;

/// What happens while a command works, for people to read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum News {
    /// A look at an origin's statement of keys begins, over a fresh connection.
    Look {
        /// Which one, from 1.
        number: u32,
        /// How many there are at first sight.
        of: u32,
    },
    /// The first look, and the only one, since this machine's address shows who looks.
    DirectLook {
        /// The origin's name.
        origin: String,
    },
    /// An origin has a statement that goes on from the pinned one.
    Offered(Box<Renewal>),
    /// A statement was accepted, because two looks a day apart and the log agree on it.
    Accepted {
        /// The origin's name.
        origin: String,
        /// The statement's number.
        serial: u64,
    },
    /// An epoch changes: no batch is made until this time is over.
    Waiting(Duration),
    /// A message is posted; whether the log has grown was not checked.
    NotChecked(String),
}

/// A time as people read it, in UTC.
pub(crate) fn time_text(seconds: u64) -> String {
    let at = UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799));
    humantime::format_rfc3339_seconds(at).to_string()
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Look { number, of } => write!(
                f,
                "looking at the relay's statement of keys over a fresh circuit, {number} of {of}; \
                 this takes up to 20 seconds each, the first time only"
            ),
            Self::DirectLook { origin } => write!(
                f,
                "{origin} is new to this wallet: its statement of keys is pinned as shown now. \
                 Without a proxy the relay sees this machine's address, so looking again would not \
                 tell whether others are shown the same; through Tor (--proxy) it would"
            ),
            Self::Offered(renewal) => renewal.fmt(f),
            Self::Accepted { origin, serial } => write!(
                f,
                "statement of keys number {serial} of {origin} is accepted: two looks a day apart \
                 and its log agree on it"
            ),
            Self::Waiting(time) => write!(
                f,
                "the epoch changes: waiting {} before tokens are bought, so that no clock tells who \
                 buys",
                humantime::format_duration(Duration::from_secs(time.as_secs() + 1))
            ),
            Self::NotChecked(why) => write!(
                f,
                "the message is posted; whether the relay's log has only grown could not be \
                 checked: {}",
                Printable(why)
            ),
        }
    }
}

/// The wallet, the clock, and whom to tell.
#[derive(Clone, Copy)]
pub struct Session<'a> {
    /// The wallet.
    pub wallet: &'a Wallet,
    /// Time since the unix epoch by this machine's clock.
    pub clock: &'a (dyn Fn() -> Duration + Sync),
    /// Is told what happens.
    pub tell: &'a (dyn Fn(News) + Sync),
}

impl Session<'_> {
    /// Unix seconds.
    pub fn now(&self) -> u64 {
        (self.clock)().as_secs()
    }
}
