//! Reading for groups: everything that is new in the relay's log is fetched, held against the signed
//! tree, and sifted for cells of the groups that this wallet is in. Neither the relay nor a mirror
//! can tell which ones these are.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tocyn_protocol::log::evidence::SignedProof;
use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::log::tile::{Content, TILE_WIDTH, Tile};
use tocyn_protocol::problem::ProblemType;
use tocyn_protocol::relay::{MessageId, RelayInfo, RetentionInfo};

use crate::evidence::Fault;
use crate::group::cell::CellKeys;
use crate::group::parts::Part;
use crate::log::files::LogFiles;
use crate::log::follow::{follow, hold_claims};
use crate::log::{LogError, nodes};
use crate::read::{Range, ReadError, Reader};
use crate::relay::RelayClient;
use crate::transport::HttpError;
use crate::wallet::{CheckedLog, Group, Taken, Wallet, WalletError};

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
        Source::Relay(relay) => relay.log_files(),
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
        },
        cells: Cells::new(source, &info),
        size: followed.size,
        accept_gone: options.accept_gone,
        now,
    };
    let read = reading.read().await;
    // Also where reading broke off: what the tree shows by now must not wait.
    let faults = hold_claims(wallet, &files, key).await?;
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
                problem.oldest.unwrap_or(self.cells.info.oldest)
            }
            _ => return Err(error),
        };
        let first = (oldest.max(from + 2) - 1).min(self.size);
        if !self.accept_gone && self.should_be_kept(first) {
            return Err(SyncError::GoneTooSoon { url: self.sifting.served_by.clone(), first });
        }
        self.sifting.wallet.skip_to(&mut self.sifting.groups, first).await?;
        self.cells.reader = None;
        Ok(())
    }

    /// Whether the relay, by its own word, still keeps some of the messages before this one: those
    /// that came since the last look.
    fn should_be_kept(&self, first: u64) -> bool {
        let Some(before) = self.sifting.before.as_ref().filter(|log| log.size < first) else {
            return false;
        };
        let RetentionInfo { max_age_seconds, max_bytes } = self.cells.info.retention;
        let bytes = (self.size - before.size).saturating_mul(self.cells.info.cell_bytes);
        let age = self.now.saturating_sub(before.synced_at);
        (max_age_seconds == 0 || age < max_age_seconds) && (max_bytes == 0 || bytes < max_bytes)
    }
}

/// The cells after a place in the log, in pieces that do not cross the border of a bundle.
struct Cells<'a> {
    source: &'a Source<'a>,
    info: &'a RelayInfo,
    reader: Option<Reader<'a>>,
    /// What came after cells that were given out first.
    failed: Option<ReadError>,
}

impl<'a> Cells<'a> {
    fn new(source: &'a Source<'a>, info: &'a RelayInfo) -> Self {
        Self { source, info, reader: None, failed: None }
    }

    /// Empty where there are no more.
    async fn after(&mut self, from: u64, size: u64) -> Result<Vec<Vec<u8>>, SyncError> {
        let end = ((from / TILE_WIDTH + 1) * TILE_WIDTH).min(size);
        match self.source {
            Source::Mirror(files) => {
                if from + 1 < self.info.oldest {
                    let (url, oldest) = (files.url().to_string(), self.info.oldest);
                    return Err(SyncError::MirrorBegins { url, oldest, next: from + 1 });
                }
                let bundle = Tile::in_tree(Content::Entries, from / TILE_WIDTH, size);
                let Some(bundle) = bundle else { return Ok(Vec::new()) };
                let mut cells = files.cells(bundle).await?;
                Ok(cells.split_off((from % TILE_WIDTH) as usize))
            }
            Source::Relay(relay) => {
                if let Some(error) = self.failed.take() {
                    return Err(error.into());
                }
                let range = Range { after: Some(from), limit: Some(size - from), follow: false };
                let reader =
                    self.reader.get_or_insert_with(|| Reader::new(relay, self.info, range));
                let mut cells = Vec::new();
                while from + (cells.len() as u64) < end {
                    match reader.next().await {
                        Ok(Some((_, cell))) => cells.push(cell),
                        Ok(None) => break,
                        Err(error) if cells.is_empty() => return Err(error.into()),
                        Err(error) => {
                            self.failed = Some(error);
                            break;
                        }
                    }
                }
                Ok(cells)
            }
        }
    }
}

/// Finds the groups' cells.
struct Sifting<'a> {
    wallet: &'a Wallet,
    key: &'a VerifierKey,
    groups: Vec<Group>,
    keys: Vec<CellKeys>,
    ids: Vec<[u8; 32]>,
    before: Option<CheckedLog>,
    served_by: String,
}

impl Sifting<'_> {
    /// Where the group that has read the least goes on; None when all have read all.
    fn next(&self, size: u64) -> Option<u64> {
        self.groups.iter().map(|group| group.read_to).min().filter(|from| *from < size)
    }

    /// Takes consecutive cells in; gives how many messages are new.
    async fn sift(&mut self, from: u64, cells: &[Vec<u8>]) -> Result<u64, SyncError> {
        let leaves = self.wallet.leaves(self.key, from, cells.len() as u64).await?;
        let mut found = Vec::new();
        for ((index, cell), leaf) in (from..).zip(cells).zip(leaves) {
            if MessageId::of(cell) != leaf.into() {
                return Err(self.altered(index, cell).await?.into());
            }
            for (group, keys) in self.keys.iter().enumerate() {
                if keys.claims(cell) && self.groups[group].read_to <= index {
                    let part =
                        keys.open(cell).and_then(|plain| Part::open(&plain, &self.ids[group]).ok());
                    found.push(Taken { group, seq: index + 1, part });
                }
            }
        }
        let read_to = from + cells.len() as u64;
        let new = self.wallet.take(&self.groups, &found, read_to, self.before.as_ref()).await?;
        for group in &mut self.groups {
            group.read_to = group.read_to.max(read_to);
        }
        Ok(new)
    }

    /// Other bytes than those in the log.
    async fn altered(&self, index: u64, cell: &[u8]) -> Result<LogError, SyncError> {
        let log = self.wallet.checked_log(self.key).await?;
        let size = log.as_ref().map_or(0, |log| log.size);
        let proof = nodes::leaf(&self.wallet.tiles(self.key), index, size).await?;
        let (Some(log), Some((leaf, inclusion))) = (log, proof) else {
            return Ok(LogError::Tiles(self.served_by.clone()));
        };
        let proof = SignedProof { index, inclusion, checkpoint: log.checkpoint }.to_string();
        let fault = Fault::Altered {
            proof,
            message_id: leaf.into(),
            served: BASE64.encode(cell),
            served_by: self.served_by.clone(),
        };
        Ok(LogError::fault(self.wallet, self.key, fault).await)
    }
}
