//! Vouchers and what was charged to them, in SQLite. All SQL of this crate is here and in
//! `store/charge.rs`.

mod charge;

use std::collections::HashSet;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use sqlx::Row;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use tocyn_protocol::pairing::{Epoch, Pairing};

pub use charge::{Charge, Charged, Refusal, Rules};

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations/sqlite");

/// How long a statement waits for another process, as `voucher create` beside `serve`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Vouchers that are remembered to exist: 32 bytes each, and some for the table.
const MAX_KNOWN: usize = 65_536;

/// The database failed. Nothing was charged.
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
    #[error("the disk of the database is full")]
    Full,
    /// Another process holds the database for too long.
    #[error("the database is locked by another process")]
    Busy,
    /// Anything else.
    #[error("the database failed")]
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

/// Waits until this process alone opens the database in `folder`; the lock goes with the file. On
/// the folder, because closing the database's own file would drop SQLite's locks on it.
fn lock_folder(folder: &Path) -> std::io::Result<std::fs::File> {
    let folder = std::fs::File::open(folder)?;
    folder.lock()?;
    Ok(folder)
}

/// A voucher as `voucher list` shows it; its code is not known.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct VoucherRow {
    /// The first 8 hexadecimal digits of the code's hash.
    pub id: String,
    /// Tokens granted.
    pub granted: u64,
    /// Tokens left.
    pub balance: u64,
    /// Unix seconds.
    pub expires_at: u64,
    /// Unix seconds, if revoked.
    pub revoked_at: Option<u64>,
}

/// The database.
#[derive(Clone)]
pub struct Store {
    /// SQLite has one writer; a pool of one queues for it fairly.
    writer: SqlitePool,
    readers: SqlitePool,
    /// Hashes of codes that were found, at most [`MAX_KNOWN`].
    known: Arc<RwLock<HashSet<[u8; 32]>>>,
}

impl Store {
    /// Opens the database at `path`, makes it (mode 0600) if it is not there, and brings its
    /// tables up to date.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let refuse = |reason: String| StoreError::Open { path: path.to_owned(), reason };
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| refuse(error.to_string()))?;
        // `serve` and `voucher create` may both be the first: one at a time makes the tables.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).to_owned();
        let locked = tokio::task::spawn_blocking(move || lock_folder(&folder)).await;
        let _first = locked
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(|error| refuse(error.to_string()))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let unreadable = |error: sqlx::Error| match error.as_database_error() {
            // SQLITE_CORRUPT and SQLITE_NOTADB.
            Some(e) if matches!(e.code().as_deref(), Some("11" | "26")) => {
                refuse(format!("{error}: the file is damaged; restore it and renew the pairing"))
            }
            _ => refuse(error.to_string()),
        };
        // A connection to a file needs no test before each use, which would cost as much as a query.
        let pool = |connections| {
            SqlitePoolOptions::new().max_connections(connections).test_before_acquire(false)
        };
        let writer = pool(1).connect_with(options.clone()).await.map_err(unreadable)?;
        MIGRATOR.run(&writer).await.map_err(|error| refuse(error.to_string()))?;
        let readers = pool(4).connect_with(options).await.map_err(unreadable)?;
        Ok(Self { writer, readers, known: Arc::default() })
    }

    /// Writes what is in the log into the file, and closes it.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1 FROM vouchers LIMIT 1").fetch_optional(&self.readers).await?;
        Ok(())
    }

    /// Whether there is such a voucher: the look before the costly part of a request. One that
    /// was found before is not looked for again: vouchers are revoked, but never deleted.
    pub async fn knows(&self, code_hash: &[u8; 32]) -> Result<bool, StoreError> {
        if self.known.read().expect("no panic under the lock").contains(code_hash) {
            return Ok(true);
        }
        let row = sqlx::query("SELECT 1 FROM vouchers WHERE code_hash = ?1")
            .bind(&code_hash[..])
            .fetch_optional(&self.readers)
            .await?;
        if row.is_some() {
            let mut known = self.known.write().expect("no panic under the lock");
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            known.insert(*code_hash);
        }
        Ok(row.is_some())
    }

    /// Ties the database to a pairing. The charges of another one are forgotten: their keys are
    /// void, and their epochs have other numbers.
    pub async fn bind(&self, pairing: &Pairing) -> Result<(), StoreError> {
        let id = pairing.key_pair(0).public().token_key_id().0;
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let bound: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT pairing_id FROM issuer").fetch_one(&mut *tx).await?;
        if bound.as_deref() != Some(&id[..]) {
            sqlx::query("DELETE FROM charges").execute(&mut *tx).await?;
            sqlx::query("UPDATE issuer SET pairing_id = ?1, closed_below = 0")
                .bind(&id[..])
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Whether this body was charged to this voucher before.
    pub async fn was_charged(
        &self,
        code_hash: &[u8; 32],
        body_hash: &[u8; 32],
    ) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT 1 FROM charges WHERE body_hash = ?2
             AND voucher_id = (SELECT id FROM vouchers WHERE code_hash = ?1)",
        )
        .bind(&code_hash[..])
        .bind(&body_hash[..])
        .fetch_optional(&self.readers)
        .await?;
        Ok(row.is_some())
    }

    /// Adds vouchers of `tokens` tokens each, all or none.
    pub async fn create_vouchers(
        &self,
        code_hashes: &[[u8; 32]],
        tokens: u64,
        expires_at: u64,
    ) -> Result<(), StoreError> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        for hash in code_hashes {
            sqlx::query(
                "INSERT INTO vouchers (code_hash, granted, balance, expires_at)
                 VALUES (?1, ?2, ?2, ?3)",
            )
            .bind(&hash[..])
            .bind(tokens as i64)
            .bind(expires_at as i64)
            .execute(&mut *tx)
            .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Every voucher, the oldest first.
    pub async fn list_vouchers(&self) -> Result<Vec<VoucherRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT code_hash, granted, balance, expires_at, revoked_at FROM vouchers ORDER BY id",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                let hash: Vec<u8> = row.try_get("code_hash")?;
                Ok(VoucherRow {
                    id: hex::encode(&hash[..4]),
                    granted: row.try_get::<i64, _>("granted")? as u64,
                    balance: row.try_get::<i64, _>("balance")? as u64,
                    expires_at: row.try_get::<i64, _>("expires_at")? as u64,
                    revoked_at: row.try_get::<Option<i64>, _>("revoked_at")?.map(|at| at as u64),
                })
            })
            .collect()
    }

    /// Revokes vouchers for good: those whose code's hash begins with `hash_prefix`, the whole
    /// hash or the id that [`VoucherRow`] shows. Gives how many.
    pub async fn revoke_voucher(&self, hash_prefix: &[u8], now: u64) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "UPDATE vouchers SET revoked_at = coalesce(revoked_at, ?2)
             WHERE substr(code_hash, 1, length(?1)) = ?1",
        )
        .bind(hash_prefix)
        .bind(now as i64)
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected())
    }

    /// Forgets the charges of closed epochs, and closes these for good; gives how many.
    pub async fn prune(&self, oldest_epoch: Epoch) -> Result<u64, StoreError> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let done = sqlx::query("DELETE FROM charges WHERE epoch < ?1")
            .bind(oldest_epoch as i64)
            .execute(&mut *tx)
            .await?;
        sqlx::query("UPDATE issuer SET closed_below = max(closed_below, ?1)")
            .bind(oldest_epoch as i64)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }
}
