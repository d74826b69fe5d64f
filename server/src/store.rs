//! Messages and spent tokens in SQLite: one verb that spends and appends, one that reads.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Row, SqliteConnection};
use tocyn_protocol::pairing::{Epoch, Pairing};
use tocyn_protocol::redemption::Redeemed;
use tocyn_protocol::relay::{MessageId, PostReceipt};

use crate::rows::{runs, statement};
use crate::spent::{self, Nonce, Slot};

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// How long a statement waits for another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements that a connection keeps: seven sizes of each statement over many rows.
const STATEMENTS: usize = 128;
/// Messages that retention deletes in one transaction, so that posts get their turn.
const TRIM_MESSAGES: u64 = 1000;

/// The database failed. Nothing was spent and nothing stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It cannot be opened.
    #[error("{path}: {reason}")]
    Open {
        /// The database file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The disk is full.
    #[error("the relay's disk is full; nothing was spent")]
    Full,
    /// The database is held by another process for too long.
    #[error("the relay's database is busy; nothing was spent, send the same post again")]
    Busy,
    /// Anything else.
    #[error("the relay's database failed; send the same post again")]
    Database(#[source] sqlx::Error),
}

impl StoreError {
    /// Tells the operator, once for each failure.
    pub fn log(&self) {
        let source = std::error::Error::source(self).map(ToString::to_string);
        tracing::error!(error = %self, source, "the store failed");
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        // SQLite's primary result code is the low byte of the extended one.
        let code = error.as_database_error().and_then(|e| e.code()?.parse::<u32>().ok());
        match code.map(|code| code & 0xff) {
            Some(13) => Self::Full,
            Some(5 | 6) => Self::Busy,
            _ => match error {
                sqlx::Error::PoolTimedOut => Self::Busy,
                error => Self::Database(error),
            },
        }
    }
}

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
}

impl SpendOutcome {
    /// The sequence of a message that was stored now.
    pub fn stored_seq(&self) -> Option<u64> {
        match self {
            Self::Stored(receipt) => Some(receipt.seq),
            _ => None,
        }
    }
}

/// The range of the log that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRange {
    /// The oldest sequence kept; `head + 1` where nothing is kept.
    pub oldest: u64,
    /// The newest sequence ever stored, 0 before the first.
    pub head: u64,
}

/// A run of messages as they go over the wire: for each its sequence (`u64`), then the cell.
#[derive(Debug)]
pub struct ReadPage {
    /// The wire bytes.
    pub bytes: Bytes,
    /// Messages in it.
    pub messages: usize,
    /// The last sequence in it.
    pub last: u64,
}

/// The database.
#[derive(Clone)]
pub struct Store {
    /// SQLite has one writer; a pool of one queues for it fairly.
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Store {
    /// Opens the database at `path`, makes it (mode 0600) if it is not there, and brings its
    /// tables up to date. A pairing other than the last one empties the spent set, since no
    /// token of the old one can be redeemed any more.
    pub async fn open(
        path: &Path,
        pairing: &Pairing,
        cell_bytes: usize,
    ) -> Result<Self, StoreError> {
        let refuse = |reason: String| StoreError::Open { path: path.to_owned(), reason };
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| refuse(error.to_string()))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .statement_cache_capacity(STATEMENTS)
            .busy_timeout(BUSY_TIMEOUT);
        let unreadable = |error: sqlx::Error| {
            refuse(format!("{error}; if the file is damaged, restore it and renew the pairing"))
        };
        let pool = |connections| SqlitePoolOptions::new().max_connections(connections);
        let writer = pool(1).connect_with(options.clone()).await.map_err(unreadable)?;
        MIGRATOR.run(&writer).await.map_err(|error| refuse(error.to_string()))?;
        let readers = pool(4).connect_with(options).await.map_err(unreadable)?;
        let store = Self { writer, readers };
        let Some(stored) = store.bind(pairing, cell_bytes).await? else {
            store.close().await;
            return Err(refuse(
                "this pairing was replaced before, and which of its tokens were spent is \
                 forgotten; make a new one with `tocyn-issuer pairing renew`"
                    .to_owned(),
            ));
        };
        if stored != cell_bytes {
            store.close().await;
            return Err(refuse(format!(
                "its messages have {stored} bytes, but cell_bytes is {cell_bytes}; \
                 set it back, or start a new data folder"
            )));
        }
        Ok(store)
    }

    /// Ties the database to a pairing; gives the size of its cells. None if the pairing was
    /// replaced before: its spent tokens are forgotten.
    async fn bind(
        &self,
        pairing: &Pairing,
        cell_bytes: usize,
    ) -> Result<Option<usize>, StoreError> {
        let pairing_id = pairing.key_pair(0).public().token_key_id().0;
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(
            "INSERT INTO log (id, head, cell_bytes, pairing_id, closed_below)
             VALUES (1, 0, ?1, ?2, 0) ON CONFLICT DO NOTHING",
        )
        .bind(cell_bytes as i64)
        .bind(&pairing_id[..])
        .execute(&mut *tx)
        .await?;
        let row = sqlx::query("SELECT cell_bytes, pairing_id FROM log WHERE id = 1")
            .fetch_one(&mut *tx)
            .await?;
        let bound: Vec<u8> = row.try_get("pairing_id")?;
        if bound != pairing_id {
            let retired = sqlx::query("SELECT 1 FROM retired_pairings WHERE pairing_id = ?1")
                .bind(&pairing_id[..])
                .fetch_optional(&mut *tx)
                .await?;
            if retired.is_some() {
                return Ok(None);
            }
            sqlx::query("INSERT INTO retired_pairings (pairing_id) VALUES (?1)")
                .bind(&bound)
                .execute(&mut *tx)
                .await?;
            spent::clear(&mut tx).await?;
            sqlx::query("UPDATE log SET pairing_id = ?1 WHERE id = 1")
                .bind(&pairing_id[..])
                .execute(&mut *tx)
                .await?;
            tracing::info!("the pairing is new: the spent set of the old one was dropped");
        }
        tx.commit().await?;
        Ok(Some(row.try_get::<i64, _>("cell_bytes")? as usize))
    }

    /// Writes what is in the log into the file, and closes it.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Spends each token and stores its message, in one transaction, and answers for each in
    /// order. A token that was spent before, earlier in this batch too, stores nothing.
    ///
    /// When this returns `Ok` all of it is durable; on an error nothing happened.
    pub async fn spend_and_append(
        &self,
        batch: &[(Redeemed, Message)],
        now: u64,
    ) -> Result<Vec<SpendOutcome>, StoreError> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let old_head = log_head(&mut tx).await?;
        let mut slots = Slots::open(&mut tx, batch).await?;
        let mut appended: Vec<(&Message, PostReceipt)> = Vec::new();
        let mut outcomes = Vec::with_capacity(batch.len());
        for (redeemed, message) in batch {
            assert_eq!(redeemed.message_id(), message.id, "a token pays for the message it names");
            let seq = old_head + appended.len() as u64 + 1;
            let receipt = PostReceipt { seq, message_id: message.id, received_at: now };
            let outcome = slots.spend(redeemed, receipt);
            if let SpendOutcome::Stored(receipt) = outcome {
                appended.push((message, receipt));
            }
            outcomes.push(outcome);
        }
        if !appended.is_empty() {
            slots.insert(&mut tx).await?;
            append(&mut tx, &appended).await?;
            sqlx::query("UPDATE log SET head = ?1 WHERE id = 1")
                .bind((old_head + appended.len() as u64) as i64)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(outcomes)
    }

    /// What is kept of the log.
    pub async fn range(&self) -> Result<LogRange, StoreError> {
        let row = sqlx::query(
            "SELECT head, coalesce((SELECT min(seq) FROM messages), head + 1) AS oldest FROM log",
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(LogRange {
            oldest: row.try_get::<i64, _>("oldest")? as u64,
            head: row.try_get::<i64, _>("head")? as u64,
        })
    }

    /// At most `limit` messages after the sequence `after`; None if there is none.
    pub async fn read_after(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Option<ReadPage>, StoreError> {
        let rows =
            sqlx::query("SELECT seq, cell FROM messages WHERE seq > ?1 ORDER BY seq LIMIT ?2")
                .bind(after.min(i64::MAX as u64) as i64)
                .bind(limit as i64)
                .fetch_all(&self.readers)
                .await?;
        let (mut bytes, mut last) = (BytesMut::new(), after);
        for row in &rows {
            last = row.try_get::<i64, _>("seq")? as u64;
            bytes.put_u64(last);
            bytes.put_slice(row.try_get::<&[u8], _>("cell")?);
        }
        let page = ReadPage { bytes: bytes.freeze(), messages: rows.len(), last };
        Ok((page.messages > 0).then_some(page))
    }

    /// Deletes the oldest messages: those below `keep_from`, and those before the first one
    /// that was received at `received_from` or later. Gives how many. A large number takes
    /// several transactions.
    pub async fn trim(&self, keep_from: u64, received_from: u64) -> Result<u64, StoreError> {
        let mut deleted = 0;
        loop {
            let done = sqlx::query(
                "DELETE FROM messages WHERE seq < min(
                     (SELECT min(seq) + ?3 FROM messages),
                     max(?1, coalesce(
                         (SELECT seq FROM messages WHERE received_at >= ?2 ORDER BY seq LIMIT 1),
                         (SELECT max(seq) + 1 FROM messages))))",
            )
            .bind(keep_from.min(i64::MAX as u64) as i64)
            .bind(received_from.min(i64::MAX as u64) as i64)
            .bind(TRIM_MESSAGES as i64)
            .execute(&self.writer)
            .await?
            .rows_affected();
            deleted += done;
            if done < TRIM_MESSAGES {
                return Ok(deleted);
            }
        }
    }

    /// Drops the spent sets of every epoch below `epoch`, for good; gives which.
    pub async fn close_epochs_below(&self, epoch: Epoch) -> Result<Vec<Epoch>, StoreError> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let dropped = spent::close_below(&mut tx, epoch).await?;
        tx.commit().await?;
        Ok(dropped)
    }
}

async fn log_head(tx: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let row = sqlx::query("SELECT head FROM log WHERE id = 1").fetch_one(tx).await?;
    Ok(row.try_get::<i64, _>("head")? as u64)
}

/// What a batch needs of the spent set: for each of its epochs the table, the nonces that were
/// spent before, and those that this batch spends.
struct Slots(HashMap<Epoch, Option<OpenSlot>>);

struct OpenSlot {
    slot: Slot,
    spent: HashMap<Nonce, PostReceipt>,
    fresh: Vec<(Nonce, PostReceipt)>,
}

impl Slots {
    async fn open(
        tx: &mut SqliteConnection,
        batch: &[(Redeemed, Message)],
    ) -> Result<Self, sqlx::Error> {
        let mut nonces: BTreeMap<Epoch, Vec<Nonce>> = BTreeMap::new();
        for (redeemed, _) in batch {
            nonces.entry(redeemed.epoch()).or_default().push(redeemed.spend_key().nonce);
        }
        let mut slots = HashMap::new();
        // The highest first: opening it may close a lower one.
        for (epoch, nonces) in nonces.into_iter().rev() {
            slots.insert(
                epoch,
                match spent::open(tx, epoch).await? {
                    None => None,
                    Some(slot) => {
                        let spent = slot.receipts(tx, &nonces).await?;
                        Some(OpenSlot { slot, spent, fresh: Vec::new() })
                    }
                },
            );
        }
        Ok(Self(slots))
    }

    /// What becomes of a token that would get this receipt.
    fn spend(&mut self, redeemed: &Redeemed, receipt: PostReceipt) -> SpendOutcome {
        let Some(Some(slot)) = self.0.get_mut(&redeemed.epoch()) else {
            return SpendOutcome::EpochClosed;
        };
        match slot.spent.entry(redeemed.spend_key().nonce) {
            Entry::Occupied(first) if first.get().message_id == receipt.message_id => {
                SpendOutcome::StoredBefore(*first.get())
            }
            Entry::Occupied(_) => SpendOutcome::SpentOnAnother,
            Entry::Vacant(place) => {
                place.insert(receipt);
                slot.fresh.push((redeemed.spend_key().nonce, receipt));
                SpendOutcome::Stored(receipt)
            }
        }
    }

    async fn insert(self, tx: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        for slot in self.0.into_values().flatten() {
            slot.slot.insert(tx, slot.fresh).await?;
        }
        Ok(())
    }
}

async fn append(
    tx: &mut SqliteConnection,
    appended: &[(&Message, PostReceipt)],
) -> Result<(), sqlx::Error> {
    for run in runs(appended) {
        let insert = "INSERT INTO messages (seq, received_at, message_id, cell) VALUES";
        let mut query = statement(insert, "(?, ?, ?, ?)", run.len(), "");
        for (message, receipt) in run {
            query = query
                .bind(receipt.seq as i64)
                .bind(receipt.received_at as i64)
                .bind(&message.id.as_bytes()[..])
                .bind(&message.cell[..]);
        }
        query.execute(&mut *tx).await?;
    }
    Ok(())
}
