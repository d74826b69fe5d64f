//! PostgreSQL: one log, any number of relays. What orders their messages is the lock on the one
//! row of `log`, taken and given back inside a procedure of the database
//! (`migrations/postgres/0001_log.sql`, ADR 7).

mod append;
mod bundles;
mod copy;
mod epochs;
mod open;
mod read;
mod report;
mod statements;
mod tree;
mod watch;

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};
use sqlx::{ConnectOptions, Postgres};
use tocyn_protocol::pairing::Epoch;
use tokio::sync::Mutex;

use super::tail::Tail;
use super::{LogRange, Message, Nonce, ReadPage, SpendOutcome, StoreError};

pub(super) use copy::Target;

/// How long a connection or a statement may take before it is given up. Locks are given up sooner.
const PATIENCE: Duration = Duration::from_secs(10);
/// How far clocks may be apart, as for epochs.
const CLOCK_TOLERANCE_SECONDS: u64 = 60;

/// A database on a server.
#[derive(Clone)]
pub struct PostgresStore(Arc<Inner>);

struct Inner {
    server: PgConnectOptions,
    /// Connections that append, while they do not.
    writers: std::sync::Mutex<Vec<PgConnection>>,
    /// For readers. Housekeeping connects anew each time.
    pool: PgPool,
    /// For the tree.
    log_pool: PgPool,
    tail: Tail,
    /// Held by the one reader that asks the database for what the tail lacks.
    filling: Mutex<()>,
    /// The newest sequence that is known to be durable.
    seen_head: AtomicU64,
    /// Serial of the newest statement of keys that this process has heard of, plus 1.
    statements: AtomicU64,
    /// The last token that this process has spent: what is not there any more was lost.
    last_spent: std::sync::Mutex<Option<LastSpent>>,
    /// Whether the log was found to end before that. For good: what is in memory, and what
    /// those who follow have read, is of a log that is no more.
    went_back: AtomicBool,
    pairing_id: [u8; 32],
    /// Root of the tree over this relay's keys, once it signs for them.
    keys_root: OnceLock<[u8; 32]>,
    cell_bytes: usize,
}

/// A spent token, and the message that it paid for.
#[derive(Clone, Copy)]
struct LastSpent {
    epoch: Epoch,
    nonce: Nonce,
    seq: u64,
}

/// The log's row, as those who read see it.
#[derive(sqlx::FromRow)]
struct LogRow {
    head: i64,
    keys_serial: i64,
    went_back: bool,
    /// Whether this is a standby, which may lag: it says nothing about what was lost.
    standby: bool,
}

impl PostgresStore {
    fn saw_head(&self, head: u64) {
        self.0.seen_head.fetch_max(head, Ordering::Relaxed);
    }

    fn saw_statement(&self, serial: i64) {
        self.0.statements.fetch_max(unsigned(serial + 1), Ordering::Relaxed);
    }

    /// Takes note of the log's row, which was read after `seen` was known; gives the head.
    async fn read_head(&self, row: LogRow, seen: u64) -> Result<u64, StoreError> {
        if row.standby {
            return Err(StoreError::Standby);
        }
        let head = unsigned(row.head);
        if row.went_back || head < seen {
            self.found_gone_back().await;
        }
        self.check_went_back()?;
        self.saw_head(head);
        self.saw_statement(row.keys_serial);
        Ok(head)
    }

    /// The log lacks what was acknowledged. Tells the others, so that none of them takes posts.
    async fn found_gone_back(&self) {
        if self.0.went_back.swap(true, Ordering::Relaxed) {
            return;
        }
        let tell = "UPDATE log SET went_back = true WHERE pairing_id = $1 AND NOT went_back";
        let told = in_time(async {
            let mut connection = self.connect().await?;
            sqlx::query(tell).bind(self.0.pairing_id).execute(&mut connection).await
        });
        if let Err(error) = told.await {
            tracing::error!(%error, "cannot tell the other relays that the log went back");
        }
    }

    fn check_went_back(&self) -> Result<(), StoreError> {
        match self.0.went_back.load(Ordering::Relaxed) {
            true => Err(StoreError::WentBack),
            false => Ok(()),
        }
    }

    fn last_spent(&self) -> Option<LastSpent> {
        *self.0.last_spent.lock().expect("no panic under the lock")
    }

    fn seen_head(&self) -> u64 {
        self.0.seen_head.load(Ordering::Relaxed)
    }

    pub(crate) async fn check_clock(&self, now: u64) -> Result<(), StoreError> {
        let clock = sqlx::query_scalar("SELECT extract(epoch FROM clock_timestamp())::bigint");
        let theirs: i64 = self.ask(async |db| clock.fetch_one(db).await).await?;
        match now as i64 - theirs {
            seconds if seconds.unsigned_abs() <= CLOCK_TOLERANCE_SECONDS => Ok(()),
            seconds => Err(StoreError::Clock { seconds }),
        }
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        self.0.server.connect().await
    }

    /// Asks something over a connection for readers, which goes back if that went well.
    async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        ask(&self.0.pool, question).await
    }

    /// The same for the tree, which posts wait for: readers must not hold that up.
    async fn ask_for_log<T>(
        &self,
        question: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        ask(&self.0.log_pool, question).await
    }

    /// Lets go of the database.
    pub(crate) async fn close(&self) {
        self.0.writers.lock().expect("no panic under the lock").clear();
        self.0.log_pool.close().await;
        self.0.pool.close().await;
    }
}

async fn ask<T>(
    pool: &PgPool,
    question: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    in_time(async {
        let mut lent = Lent(Some(pool.acquire().await?));
        let answer = question(&mut lent).await?;
        lent.release();
        Ok(answer)
    })
    .await
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
