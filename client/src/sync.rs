//! Reading for groups: everything that is new in the relay's log is fetched, held against the signed
//! tree, and sifted for cells of the groups that this wallet is in. Neither the relay nor a mirror
//! can tell which ones these are.

mod cells;
mod sifting;

use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::problem::ProblemType;
use tocyn_protocol::relay::RetentionInfo;

use crate::group::cell::CellKeys;
use crate::log::files::LogFiles;
use crate::log::follow::{follow, hold_claims};
use crate::log::{LogError, check_statements};
use crate::read::ReadError;
use crate::relay::RelayClient;
use crate::transport::HttpError;
use crate::wallet::{Group, Wallet, WalletError};
use cells::Cells;
use sifting::Sifting;

/// Why reading ended early. What was read before it is in the wallet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The messages.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The relay, or the mirror, is one of another log.
    #[error(
        "{url} has the log of {shown}, but the group's is that of {known}: it is another relay"
    )]
    OtherLog {
        /// Who was asked.
        url: String,
        /// Its log.
        shown: String,
        /// The group's.
        known: String,
    },
    /// The relay says that messages are gone which it should still keep.
    #[error(
        "{url} says that the messages before {next} are gone, but by its own rules it should still \
         keep some of them: it hides them, or its operator had to drop them. `tocyn sync \
         --accept-gone` goes on without them", next = first + 1
    )]
    GoneTooSoon {
        /// Who was asked.
        url: String,
        /// Messages before the first that is there.
        first: u64,
    },
    /// A mirror that lacks what is needed next.
    #[error(
        "the copy at {url} begins with message {oldest}, and {next} is needed next; read from the relay"
    )]
    MirrorBegins {
        /// Who was asked.
        url: String,
        /// The first message that it has.
        oldest: u64,
        /// The one that is needed.
        next: u64,
    },
    /// Fewer messages came than were signed.
    #[error("{url} has signed {size} messages and hands out {got}: it withholds the rest")]
    Withheld {
        /// Who was asked.
        url: String,
        /// Messages that are signed.
        size: u64,
        /// Those that came.
        got: u64,
    },
    /// The wallet failed.
    #[error(transparent)]
    Wallet(#[from] WalletError),
}

impl From<HttpError> for SyncError {
    fn from(error: HttpError) -> Self {
        LogError::from(error).into()
    }
}

/// Where to read from.
pub enum Source<'a> {
    /// The relay.
    Relay(&'a RelayClient),
    /// A copy of its log.
    Mirror(&'a LogFiles),
}

/// What came of it.
#[derive(Debug)]
pub struct Synced {
    /// Messages in the log.
    pub size: u64,
    /// Cells that were fetched.
    pub cells: u64,
    /// Messages to groups that are new.
    pub messages: u64,
    /// What does not fit together; the evidence is kept.
    pub faults: Vec<LogError>,
}

/// How to read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Fetch everything again, so that what is asked for does not tell who asks.
    pub resync: bool,
    /// Go on although the relay says that messages are gone which it should still keep.
    pub accept_gone: bool,
}

/// Reads what is new for all groups at the relay with this key, and holds everything that its
/// members say they were shown against its log.
pub async fn sync(
    wallet: &Wallet,
    source: &Source<'_>,
    key: &VerifierKey,
    options: Options,
    now: u64,
) -> Result<Synced, SyncError> {
    let files = match source {
        Source::Relay(relay) => relay.log_files()?,
        Source::Mirror(files) => (*files).clone(),
    };
    let info = match source {
        Source::Relay(relay) => relay.info().await?,
        Source::Mirror(files) => files.info().await?,
    };
    if info.log_key != *key {
        let (shown, known) = (info.log_key.to_string(), key.to_string());
        return Err(SyncError::OtherLog { url: files.url().to_string(), shown, known });
    }
    let mut faults = Vec::new();
    match check_statements(wallet, key, &info).await {
        Ok(()) => {}
        // Signed by the relay, whoever shows it.
        Err(fault @ LogError::Fault { .. }) => faults.push(fault),
        Err(LogError::Statements(error)) if files.is_mirror() => {
            let url = files.url().to_string();
            faults.push(LogError::CopyStatements { url, error });
        }
        Err(error) => return Err(error.into()),
    }
    let followed = follow(wallet, &files, key, options.resync, now).await?;
    let mut groups = wallet.groups().await?;
    groups.retain(|group| group.log_key() == key);
    if options.resync {
        wallet.read_again(&mut groups).await?;
    }
    let mut messages = 0;
    for group in &groups {
        messages += wallet.join_again(group).await?;
    }
    let mut reading = Reading {
        sifting: Sifting {
            wallet,
            key,
            keys: groups.iter().map(|group| CellKeys::new(&group.invite.secret, key)).collect(),
            ids: groups.iter().map(Group::group_id).collect(),
            groups,
            before: followed.before,
            served_by: files.url().to_string(),
            is_mirror: files.is_mirror(),
        },
        cells: Cells::new(source, &info),
        size: followed.size,
        accept_gone: options.accept_gone,
        now,
    };
    let read = reading.read().await;
    // Also where reading broke off: what the tree shows by now must not wait.
    faults.extend(hold_claims(wallet, &files, key).await?);
    let (cells, new) = read?;
    Ok(Synced { size: followed.size, cells, messages: messages + new, faults })
}

/// Reading up to a place in the log.
struct Reading<'a> {
    sifting: Sifting<'a>,
    cells: Cells<'a>,
    size: u64,
    accept_gone: bool,
    now: u64,
}

impl Reading<'_> {
    /// Gives how many cells came, and how many messages are new.
    async fn read(&mut self) -> Result<(u64, u64), SyncError> {
        let (mut cells, mut messages) = (0, 0);
        while let Some(from) = self.sifting.next(self.size) {
            let came = match self.cells.after(from, self.size).await {
                Err(error) => {
                    self.skip(from, error).await?;
                    continue;
                }
                Ok(came) => came,
            };
            if came.is_empty() {
                let (url, size) = (self.sifting.served_by.clone(), self.size);
                return Err(SyncError::Withheld { url, size, got: from });
            }
            cells += came.len() as u64;
            messages += self.sifting.sift(from, &came).await?;
        }
        Ok((cells, messages))
    }

    /// Passes over what the relay says is gone, if it may be. What is gone cannot be had; that it is,
    /// is said.
    async fn skip(&mut self, from: u64, error: SyncError) -> Result<(), SyncError> {
        let oldest = match &error {
            SyncError::Log(LogError::Http(HttpError::Refused { problem, .. }))
            | SyncError::Read(ReadError::Http(HttpError::Refused { problem, .. }))
                if problem.problem_type() == Some(ProblemType::CursorGone) =>
            {
                problem.oldest.unwrap_or(self.cells.info().oldest)
            }
            _ => return Err(error),
        };
        let first = (oldest.max(from + 2) - 1).min(self.size);
        if !self.accept_gone && self.should_be_kept(first) {
            return Err(SyncError::GoneTooSoon { url: self.sifting.served_by.clone(), first });
        }
        self.sifting.wallet.skip_to(&mut self.sifting.groups, first).await?;
        self.cells.ask_again();
        Ok(())
    }

    /// Whether the relay, by its own word, still keeps some of the messages before this one: those
    /// that came since the last look.
    fn should_be_kept(&self, first: u64) -> bool {
        let Some(before) = self.sifting.before.as_ref().filter(|log| log.size < first) else {
            return false;
        };
        let RetentionInfo { max_age_seconds, max_bytes } = self.cells.info().retention;
        let bytes = (self.size - before.size).saturating_mul(self.cells.info().cell_bytes);
        let age = self.now.saturating_sub(before.synced_at);
        (max_age_seconds == 0 || age < max_age_seconds) && (max_bytes == 0 || bytes < max_bytes)
    }
}
