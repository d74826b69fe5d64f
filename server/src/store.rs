//! Messages and spent tokens: one verb that spends and appends, one that reads. The contract is
//! here; SQLite and PostgreSQL keep it, and `tests/relay` holds both to it.

mod bundles;
mod copy;
mod error;
mod owner;
mod page;
mod postgres;
mod report;
mod settled;
mod sqlite;
mod statements;
mod tail;
mod tree;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::pairing::{Epoch, Pairing};
use tocyn_protocol::redemption::Redeemed;
use tocyn_protocol::relay::{MessageId, PostReceipt};
use tocyn_protocol::suite::NONCE_BYTES;

use crate::head::Head;
use tocyn_service::database::Database;

pub use copy::{Copied, Copying};
pub use error::StoreError;
use owner::Owner;
pub use page::ReadPage;
pub(crate) use page::block_messages;
pub use postgres::PostgresStore;
pub use report::{SpentInEpoch, Stats};
pub use sqlite::SqliteStore;
pub use statements::StoredStatement;
pub use tree::{FullTile, Leaves};

/// A token's 32 random bytes.
type Nonce = [u8; NONCE_BYTES];

/// A cell with its id.
#[derive(Clone, Debug)]
pub struct Message {
    id: MessageId,
    cell: Bytes,
}

impl Message {
    /// Hashes the cell.
    pub fn new(cell: Bytes) -> Self {
        Self { id: MessageId::of(&cell), cell }
    }

    /// The id.
    pub fn id(&self) -> MessageId {
        self.id
    }
}

/// What became of a token and its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpendOutcome {
    /// The token is spent and the message stored.
    Stored(PostReceipt),
    /// The token had paid for this very message before; its first receipt.
    StoredBefore(PostReceipt),
    /// The token had paid for another message.
    SpentOnAnother,
    /// The token's epoch was closed in between.
    EpochClosed,
    /// There is no room for the token's epoch before another one is closed.
    NoRoom,
}

impl SpendOutcome {
    /// The sequence of a message that was stored now.
    pub fn stored_seq(&self) -> Option<u64> {
        match self {
            Self::Stored(receipt) => Some(receipt.seq),
            _ => None,
        }
    }

    /// What it means to a message that its token had `first` paid for this.
    fn spent_before(first: PostReceipt, message: &Message) -> Self {
        match first.message_id == message.id {
            true => Self::StoredBefore(first),
            false => Self::SpentOnAnother,
        }
    }
}

/// Why tables of an older version are not looked at.
const NOT_UP_TO_DATE: &str = "its tables are of an older version; `tocyn-relay db migrate` brings \
    them up to date, but older relays that use them cannot start again then";

/// What there is to see where no relay has been.
pub(crate) const NOTHING_YET: &str = "no relay has served from this database yet";

/// What a database is opened for.
#[derive(Clone, Copy)]
enum Purpose<'a> {
    /// To serve: it is tied to this relay.
    Serve(Owner<'a>),
    /// To be looked at.
    Look,
    /// To be moved elsewhere, or to find out whether it was.
    Move,
}

/// The range of the log that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRange {
    /// The oldest sequence kept; `head + 1` where nothing is kept.
    pub oldest: u64,
    /// The newest sequence ever stored, 0 before the first.
    pub head: u64,
}

/// The database.
#[derive(Clone)]
pub enum Store {
    /// A file, for one relay.
    Sqlite(SqliteStore),
    /// A server, for any number of relays with one log.
    Postgres(PostgresStore),
}

impl Store {
    /// Opens the database, makes its tables if they are not there, and brings them up to date.
    /// A database that is not this relay's is refused, and left as it is: another key signs its log,
    /// its cells have another size, or it is tied to a pairing that this one does not
    /// [replace](Pairing::replaces). One that this pairing replaces is forgotten with the spent set,
    /// since none of its tokens can be redeemed any more.
    pub async fn open(
        database: &Database,
        pairing: &Pairing,
        key: &VerifierKey,
        cell_bytes: usize,
    ) -> Result<Self, StoreError> {
        Self::open_for(database, Purpose::Serve(Owner { pairing, key, cell_bytes })).await
    }

    /// Opens a database that a relay has made, whatever its pairing. Nothing may be spent there:
    /// it is for those who look at it.
    pub async fn look_at(database: &Database) -> Result<Self, StoreError> {
        Self::open_for(database, Purpose::Look).await
    }

    /// Opens a database to be moved elsewhere.
    pub async fn open_to_move(database: &Database) -> Result<Self, StoreError> {
        Self::open_for(database, Purpose::Move).await
    }

    async fn open_for(database: &Database, purpose: Purpose<'_>) -> Result<Self, StoreError> {
        Ok(match database {
            Database::Sqlite(path) => Self::Sqlite(SqliteStore::open(path, purpose).await?),
            Database::Postgres(server) => {
                Self::Postgres(PostgresStore::open(server, purpose).await?)
            }
        })
    }

    /// Refuses where a log in this file would be left behind. Its tokens would be taken again in
    /// another database.
    pub async fn leave_file(path: &Path) -> Result<(), StoreError> {
        if !path.exists() || !SqliteStore::is_in_use(path).await? {
            return Ok(());
        }
        let reason = "a log is in this file, and tokens that were spent there would be taken again in \
            another database; move it with `tocyn-relay db copy --to URL` before database.url is \
            set, or renew the pairing and move the file away";
        Err(StoreError::Open { database: path.display().to_string(), reason: reason.to_owned() })
    }

    /// Makes the tables, or brings them up to date; says whether there was anything to do.
    pub async fn migrate(database: &Database) -> Result<bool, StoreError> {
        match database {
            Database::Sqlite(path) => SqliteStore::migrate(path).await,
            Database::Postgres(server) => PostgresStore::migrate(server).await,
        }
    }

    /// Spends each token and stores its message, in one transaction, and answers for each in
    /// order. A token that was spent before, earlier in this batch too, stores nothing.
    ///
    /// When this returns `Ok` all of it is durable. On an error nothing happened; but if the
    /// connection to a server broke, all or nothing: the same post sent again finds out.
    pub async fn spend_and_append(
        &self,
        batch: &[(Redeemed, Message)],
        now: u64,
    ) -> Result<Vec<SpendOutcome>, StoreError> {
        for (redeemed, message) in batch {
            assert_eq!(redeemed.message_id(), message.id, "a token pays for the message it names");
        }
        match self {
            Self::Sqlite(store) => store.spend_and_append(batch, now).await,
            Self::Postgres(store) => store.spend_and_append(batch, now).await,
        }
    }

    /// What is kept of the log.
    pub async fn range(&self) -> Result<LogRange, StoreError> {
        match self {
            Self::Sqlite(store) => store.range().await,
            Self::Postgres(store) => store.range().await,
        }
    }

    /// Whether posts can be taken.
    pub async fn ready(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.range().await.map(drop),
            Self::Postgres(store) => store.ready().await,
        }
    }

    /// Writes what changes nothing, as durably as a post and over the same connection. Where posts
    /// failed because the disk `was_full`, it must also have room for some.
    pub async fn try_write(&self, was_full: bool) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.try_write(was_full).await,
            Self::Postgres(store) => store.try_write().await,
        }
    }

    /// Refuses a clock that is not the database's: what one process deletes by a wrong clock is
    /// gone for all that share the database. A file has one process, and no other clock.
    pub async fn check_clock(&self, now: u64) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(store) => store.check_clock(now).await,
        }
    }

    /// At most `limit` messages after the sequence `after`, of those that the database has; None
    /// if there is none. Where it does not have those right after it, the page begins with the
    /// oldest ones that it has. What is sealed,
    /// [`crate::messages`] reads too.
    pub async fn read_after(&self, after: u64, limit: u64) -> Result<Option<ReadPage>, StoreError> {
        match self {
            Self::Sqlite(store) => store.read_after(after, limit).await,
            Self::Postgres(store) => store.read_after(after, limit).await,
        }
    }

    /// Deletes the oldest messages: those below `keep_from`, and by age those up to the last old
    /// one before the first young one, but for those that share a block or a sealed bundle with one
    /// that stays. `young` is when young ones were received, in unix seconds; old ones were before
    /// that. One from after it was stored by a clock that was ahead: its age is not known, and it
    /// goes and stays with those around it.
    ///
    /// Returns how many. A large number takes several transactions. The files of bundles stay; whoever
    /// has the folder removes them after that.
    pub async fn trim(
        &self,
        keep_from: u64,
        young: RangeInclusive<u64>,
    ) -> Result<u64, StoreError> {
        let before = self.range().await?.oldest;
        match self {
            Self::Sqlite(store) => store.trim(keep_from, young).await?,
            Self::Postgres(store) => store.trim(keep_from, young).await?,
        }
        Ok(self.range().await?.oldest.saturating_sub(before))
    }

    /// Drops the spent sets of every epoch below `epoch`, for good; gives which. From the first
    /// transaction on none of their tokens is taken; their rows go in several more.
    pub async fn close_epochs_below(&self, epoch: Epoch) -> Result<Vec<Epoch>, StoreError> {
        match self {
            Self::Sqlite(store) => store.close_epochs_below(epoch).await,
            Self::Postgres(store) => store.close_epochs_below(epoch).await,
        }
    }

    /// Makes room ahead for the spent tokens of these epochs, so that their first post need
    /// not wait for it.
    pub async fn prepare_epochs(&self, epochs: &[Epoch]) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => Ok(()), // its tables take turns
            Self::Postgres(store) => store.prepare_epochs(epochs).await,
        }
    }

    /// What the database needs done beside the posts, until this is dropped: SQLite's log is
    /// kept short; what other relays append is told to `head`.
    pub async fn work_forever(&self, head: Head) {
        match self {
            Self::Sqlite(store) => store.checkpoint_forever().await,
            Self::Postgres(store) => store.watch_forever(head).await,
        }
    }

    /// The database's file, if it is one.
    pub fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Sqlite(store) => Some(store.file()),
            Self::Postgres(_) => None,
        }
    }

    /// Lets go of the database.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => store.close().await,
        }
    }
}
