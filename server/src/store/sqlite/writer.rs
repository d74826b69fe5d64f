//! The one connection that writes, and what keeps its write-ahead log short.
//!
//! SQLite copies the log into the database file now and then, a *checkpoint*. In the midst of a
//! commit that would hold posts up for as long as a thousand scattered pages take, so another
//! connection does it beside the writer, and the writer only waits for the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use super::open::PAGE_BYTES;

/// Pages in the log after which a checkpoint is due: about 48 MiB.
const CHECKPOINT_PAGES: u64 = 12_288;
/// Pages in the log after which the writer checkpoints by itself, should the other be stuck.
const CHECKPOINT_PAGES_AT_MOST: &str = "100000";

/// Those who write take turns, in the order in which they come.
pub(super) struct Writer {
    connection: Mutex<Option<SqliteConnection>>,
    options: SqliteConnectOptions,
    /// Taken only for checkpoints.
    beside: Mutex<Option<SqliteConnection>>,
    /// About how many are in the log.
    pages: AtomicU64,
}

impl Writer {
    pub(super) async fn open(options: SqliteConnectOptions) -> Result<Arc<Self>, sqlx::Error> {
        let writing = options.clone().pragma("wal_autocheckpoint", CHECKPOINT_PAGES_AT_MOST);
        Ok(Arc::new(Self {
            connection: Mutex::new(Some(writing.connect().await?)),
            options: writing,
            beside: Mutex::new(Some(options.connect().await?)),
            pages: AtomicU64::new(0),
        }))
    }

    /// The connection, once it is this caller's turn.
    pub(super) async fn turn(&self) -> Result<MappedMutexGuard<'_, SqliteConnection>, sqlx::Error> {
        let mut connection = open_one(&self.connection).await?;
        if connection.is_in_transaction() {
            // The last one was given up. If SQLite has ended it by itself, as where the disk is
            // full, this connection would wait for its end for ever.
            *connection = self.options.connect().await?;
        }
        Ok(connection)
    }

    /// Takes note of posts that were committed: each changes a page of the spent set, and fills
    /// others with its cell.
    pub(super) fn committed(&self, posts: usize, cell_bytes: usize) {
        let pages = posts + posts * cell_bytes / PAGE_BYTES as usize;
        self.pages.fetch_add(pages as u64, Ordering::Relaxed);
    }

    /// Checkpoints if enough was written since the last time; says whether.
    pub(super) async fn checkpoint_if_due(&self) -> Result<bool, sqlx::Error> {
        if self.pages.load(Ordering::Relaxed) < CHECKPOINT_PAGES {
            return Ok(false);
        }
        self.pages.store(0, Ordering::Relaxed);
        self.checkpoint().await?;
        Ok(true)
    }

    /// Copies what is in the log into the database file, most of it beside the writer; then
    /// lets the writer begin the log anew, without which it would only grow.
    async fn checkpoint(&self) -> Result<(), sqlx::Error> {
        let mut beside = open_one(&self.beside).await?;
        // The second round is for what was written during the first.
        for _ in 0..2 {
            sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(&mut *beside).await?;
        }
        let mut writer = self.turn().await?;
        sqlx::query("PRAGMA wal_checkpoint(RESTART)").fetch_one(&mut *writer).await?;
        Ok(())
    }

    /// Closes both connections; the last one copies what is left in the log.
    pub(super) async fn close(&self) {
        for connection in [&self.beside, &self.connection] {
            if let Some(connection) = connection.lock().await.take() {
                let _ = connection.close().await;
            }
        }
    }
}

async fn open_one(
    connection: &Mutex<Option<SqliteConnection>>,
) -> Result<MappedMutexGuard<'_, SqliteConnection>, sqlx::Error> {
    MutexGuard::try_map(connection.lock().await, Option::as_mut)
        .map_err(|_| sqlx::Error::PoolClosed)
}
