//! The one connection that writes, and what keeps its write-ahead log short.
//!
//! SQLite copies the log into the database file now and then, a *checkpoint*. In the midst of a
//! commit that would hold posts up for as long as a thousand scattered pages take, so another
//! connection does it beside the writer, and the writer only waits for the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

/// Posts after which a checkpoint is due: up to twice as many pages in the log.
const CHECKPOINT_POSTS: u64 = 8192;
/// Pages in the log after which the writer checkpoints by itself, should the other be stuck.
const CHECKPOINT_PAGES_AT_MOST: &str = "100000";
/// How often to look whether a checkpoint is due.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(100);
/// Those who write take turns, in the order in which they come.
pub(super) struct Writer {
    connection: Mutex<Option<SqliteConnection>>,
    /// Taken only for checkpoints.
    beside: Mutex<Option<SqliteConnection>>,
    posts_since_checkpoint: AtomicU64,
}

impl Writer {
    pub(super) async fn open(options: SqliteConnectOptions) -> Result<Arc<Self>, sqlx::Error> {
        let writing = options.clone().pragma("wal_autocheckpoint", CHECKPOINT_PAGES_AT_MOST);
        Ok(Arc::new(Self {
            connection: Mutex::new(Some(writing.connect().await?)),
            beside: Mutex::new(Some(options.connect().await?)),
            posts_since_checkpoint: AtomicU64::new(0),
        }))
    }

    /// The connection, once it is this caller's turn.
    pub(super) async fn turn(&self) -> Result<MappedMutexGuard<'_, SqliteConnection>, sqlx::Error> {
        open_one(&self.connection).await
    }

    /// Takes note of posts that were committed.
    pub(super) fn committed(&self, posts: usize) {
        self.posts_since_checkpoint.fetch_add(posts as u64, Ordering::Relaxed);
    }

    /// Checkpoints whenever it is due.
    pub(super) async fn checkpoint_forever(&self) {
        loop {
            tokio::time::sleep(CHECKPOINT_INTERVAL).await;
            if self.posts_since_checkpoint.load(Ordering::Relaxed) < CHECKPOINT_POSTS {
                continue;
            }
            self.posts_since_checkpoint.store(0, Ordering::Relaxed);
            if let Err(error) = self.checkpoint().await {
                tracing::warn!(%error, "cannot shorten the database's log; it will be tried again");
            }
        }
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
