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

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};
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
    /// The one connection that appends; None until it is needed, and after it has failed.
    writer: Mutex<Option<PgConnection>>,
    readers: PgPool,
    tail: Tail,
    /// Held by the one reader that asks the database for what the tail lacks.
    filling: Mutex<()>,
    /// The newest sequence that is known to be durable.
    seen_head: AtomicU64,
    pairing_id: [u8; 32],
    cell_bytes: usize,
}

impl PostgresStore {
    fn saw_head(&self, head: u64) {
        self.0.seen_head.fetch_max(head, Ordering::Relaxed);
    }

    fn seen_head(&self) -> u64 {
        self.0.seen_head.load(Ordering::Relaxed)
    }

    /// Lets go of the database.
    pub(crate) async fn close(&self) {
        drop(self.0.writer.lock().await.take());
        self.0.readers.close().await;
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
