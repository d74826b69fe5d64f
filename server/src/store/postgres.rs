//! PostgreSQL: one log, any number of relays. What orders their messages is the lock on the one
//! row of `log`, taken and given back inside a procedure of the database
//! (`migrations/postgres/0001_log.sql`, ADR 7).

mod append;
mod copy;
mod epochs;
mod open;
mod read;
mod report;
mod watch;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};
use sqlx::{ConnectOptions, Postgres};
use tokio::sync::Mutex;

use super::tail::Tail;
use super::{LogRange, Message, Nonce, ReadPage, SpendOutcome, StoreError};

pub(super) use copy::Target;

/// How long a connection or a statement may take before it is given up. Locks are given up sooner.
const PATIENCE: Duration = Duration::from_secs(10);

/// A database on a server.
#[derive(Clone)]
pub struct PostgresStore(Arc<Inner>);

struct Inner {
    server: PgConnectOptions,
    /// Connections that append, while they do not.
    writers: std::sync::Mutex<Vec<PgConnection>>,
    /// For readers. Housekeeping connects anew each time.
    pool: PgPool,
    tail: Tail,
    /// Held by the one reader that asks the database for what the tail lacks.
    filling: Mutex<()>,
    /// The newest sequence that is known to be durable.
    seen_head: AtomicU64,
    /// Whether the log was found to end before that. For good: what is in memory, and what
    /// those who follow have read, is of a log that is no more.
    went_back: AtomicBool,
    pairing_id: [u8; 32],
    cell_bytes: usize,
}

impl PostgresStore {
    fn saw_head(&self, head: u64) {
        self.0.seen_head.fetch_max(head, Ordering::Relaxed);
    }

    /// Takes note of a head that was read after `seen` was known.
    fn read_head(&self, head: u64, seen: u64) -> Result<(), StoreError> {
        if head < seen {
            self.0.went_back.store(true, Ordering::Relaxed);
        }
        self.check_went_back()?;
        self.saw_head(head);
        Ok(())
    }

    fn check_went_back(&self) -> Result<(), StoreError> {
        match self.0.went_back.load(Ordering::Relaxed) {
            true => Err(StoreError::WentBack),
            false => Ok(()),
        }
    }

    fn seen_head(&self) -> u64 {
        self.0.seen_head.load(Ordering::Relaxed)
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        self.0.server.connect().await
    }

    async fn lend(&self) -> Result<Lent, sqlx::Error> {
        Ok(Lent(Some(self.0.pool.acquire().await?)))
    }

    /// Lets go of the database.
    pub(crate) async fn close(&self) {
        self.0.writers.lock().expect("no panic under the lock").clear();
        self.0.pool.close().await;
    }
}

/// A connection out of the pool. It goes back only when it is released: one that is dropped in the
/// midst of a statement, after an error or because time ran out, is closed. The pool would first
/// talk to it, and over a dead network wait for ever.
struct Lent(Option<PoolConnection<Postgres>>);

impl Lent {
    fn release(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.0.as_ref().expect("it is not released yet")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect("it is not released yet")
    }
}

/// Gives up what takes too long. A statement that was sent may still be carried out.
async fn in_time<T, E: From<sqlx::Error>>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let late = |_| sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::TimedOut));
    tokio::time::timeout(PATIENCE, work).await.map_err(late)?
}

/// Sequences, epochs and times are below 2^63.
fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
