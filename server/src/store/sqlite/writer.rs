//! The one connection that writes, and what keeps its write-ahead log (WAL) short.
//!
//! SQLite copies the WAL into the database file now and then, a *checkpoint*. In the midst of a
//! commit that would hold posts up for as long as a thousand scattered pages take, so another
//! connection does it beside the writer, and the writer only waits for the rest. Nobody waits for
//! readers: while one needs old pages, the WAL grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tocyn_durable::sqlite::{self, Checkpointer};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use super::open::PAGE_BYTES;

/// Pages in the WAL after which a checkpoint is due: about 48 MiB.
const CHECKPOINT_PAGES: u64 = 12_288;
/// Time after which one is due for any change. A copy of the database file without its WAL, a common
/// mistake, lacks no more than this.
const CHECKPOINT_TIME: Duration = Duration::from_secs(60);

/// Those who write take turns, in the order in which they come.
pub(super) struct Writer {
    connection: Mutex<Option<SqliteConnection>>,
    options: SqliteConnectOptions,
    checkpointer: Mutex<Option<Checkpointer>>,
    /// About how many are in the WAL.
    pages: AtomicU64,
    checkpointed_at: std::sync::Mutex<Instant>,
}

impl Writer {
    pub(super) async fn open(options: SqliteConnectOptions) -> Result<Arc<Self>, sqlx::Error> {
        let connection = sqlite::connect(&options).await?;
        Ok(Arc::new(Self {
            connection: Mutex::new(Some(connection)),
            checkpointer: Mutex::new(Some(Checkpointer::open(&options).await?)),
            options,
            pages: AtomicU64::new(0),
            checkpointed_at: Instant::now().into(),
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

    /// Checkpoints if enough was written since the last time, or anything a while ago; says whether.
    pub(super) async fn checkpoint_if_due(&self) -> Result<bool, sqlx::Error> {
        let is_long = self.pages.load(Ordering::Relaxed) >= CHECKPOINT_PAGES;
        if !is_long && self.checkpointed_at().elapsed() < CHECKPOINT_TIME {
            return Ok(false);
        }
        *self.checkpointed_at() = Instant::now();
        let mut checkpointer = open_one(&self.checkpointer).await?;
        if !is_long && !checkpointer.is_behind().await? {
            return Ok(false);
        }
        self.pages.store(0, Ordering::Relaxed);
        checkpointer.copy_back().await?;
        sqlite::checkpoint(&mut *self.turn().await?).await?;
        Ok(true)
    }

    fn checkpointed_at(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.checkpointed_at.lock().expect("no panic under the lock")
    }

    /// Copies back what is left in the WAL, and closes both connections. The close would do it too,
    /// but say nothing of a sync that failed.
    pub(super) async fn close(&self) {
        if let Ok(mut writer) = self.turn().await
            && let Err(error) = sqlite::checkpoint(&mut writer).await
        {
            tracing::warn!(%error, "cannot shorten the database's WAL; the next start does it");
        }
        if let Some(checkpointer) = self.checkpointer.lock().await.take() {
            checkpointer.close().await;
        }
        if let Some(connection) = self.connection.lock().await.take() {
            let _ = connection.close().await;
        }
    }
}

async fn open_one<T>(
    connection: &Mutex<Option<T>>,
) -> Result<MappedMutexGuard<'_, T>, sqlx::Error> {
    MutexGuard::try_map(connection.lock().await, Option::as_mut)
        .map_err(|_| sqlx::Error::PoolClosed)
}
