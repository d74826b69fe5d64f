//! Vouchers and what was charged to them, in SQLite. All SQL of this crate is here.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Row, SqliteConnection};
use tocyn_protocol::pairing::{Epoch, Pairing};

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// How long a statement waits for another process, as `voucher create` beside `serve`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

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

/// What a request asks of a voucher.
#[derive(Clone, Copy)]
pub struct Charge<'a> {
    /// SHA-256 of the voucher's code.
    pub code_hash: &'a [u8; 32],
    /// SHA-256 of the request body.
    pub body_hash: &'a [u8; 32],
    /// Tokens asked for.
    pub tokens: usize,
    /// The epoch to issue under; None refuses all but repeats.
    pub epoch: Option<Epoch>,
    /// The oldest epoch whose repeats are answered.
    pub oldest_epoch: Epoch,
}

/// How often a request may be repeated.
#[derive(Clone, Copy, Debug)]
pub struct ReplayLimit {
    /// Repeats in one window.
    pub max_replays: u32,
    /// Length of the window in seconds.
    pub window_seconds: u64,
}

/// What became of a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charged {
    /// Charged, or charged before: answer under this epoch's key.
    Answer(Epoch),
    /// Repeated too often; wait this many seconds.
    TooManyReplays(u64),
    /// No key fits, and it is no repeat.
    UnknownKey,
    /// There is no such voucher.
    Unknown,
    /// Revoked.
    Revoked,
    /// Expired.
    Expired,
    /// Too few tokens: this many are left.
    Exhausted(u64),
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
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let unreadable = |error: sqlx::Error| {
            refuse(format!("{error}; if the file is damaged, restore it and renew the pairing"))
        };
        let pool = |connections| SqlitePoolOptions::new().max_connections(connections);
        let writer = pool(1).connect_with(options.clone()).await.map_err(unreadable)?;
        MIGRATOR.run(&writer).await.map_err(|error| refuse(error.to_string()))?;
        let readers = pool(4).connect_with(options).await.map_err(unreadable)?;
        Ok(Self { writer, readers })
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

    /// Whether there is such a voucher: the look before the costly part of a request.
    pub async fn knows(&self, code_hash: &[u8; 32]) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM vouchers WHERE code_hash = ?1")
            .bind(&code_hash[..])
            .fetch_optional(&self.readers)
            .await?;
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

    /// Charges a request to a voucher, exactly once however often it is sent: a body that was
    /// charged before is answered again under the key of then and not charged.
    ///
    /// One transaction; durable when this returns.
    pub async fn charge(
        &self,
        charge: Charge<'_>,
        limit: ReplayLimit,
        now: u64,
    ) -> Result<Charged, StoreError> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let outcome = match replay(&mut tx, charge, limit, now).await? {
            Some(outcome) => outcome,
            None => charge_fresh(&mut tx, charge, now).await?,
        };
        tx.commit().await?;
        Ok(outcome)
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

/// Counts a repeat; None if this body was not charged before.
async fn replay(
    tx: &mut SqliteConnection,
    charge: Charge<'_>,
    limit: ReplayLimit,
    now: u64,
) -> Result<Option<Charged>, StoreError> {
    let row = sqlx::query(
        "UPDATE charges SET
             replays = CASE WHEN window_start + ?4 <= ?3 THEN 1 ELSE min(replays, ?5) + 1 END,
             window_start = CASE WHEN window_start + ?4 <= ?3 THEN ?3 ELSE window_start END
         WHERE voucher_id = (SELECT id FROM vouchers WHERE code_hash = ?1) AND body_hash = ?2
         RETURNING epoch, replays, window_start",
    )
    .bind(&charge.code_hash[..])
    .bind(&charge.body_hash[..])
    .bind(now as i64)
    .bind(limit.window_seconds as i64)
    .bind(i64::from(limit.max_replays))
    .fetch_optional(tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let epoch = row.try_get::<i64, _>("epoch")? as u64;
    let window_start = row.try_get::<i64, _>("window_start")? as u64;
    Ok(Some(if row.try_get::<i64, _>("replays")? > i64::from(limit.max_replays) {
        let wait = (window_start + limit.window_seconds).saturating_sub(now);
        Charged::TooManyReplays(wait.max(1))
    } else if epoch < charge.oldest_epoch {
        Charged::UnknownKey
    } else {
        Charged::Answer(epoch)
    }))
}

/// Charges a body that is new to this voucher, or says why not.
async fn charge_fresh(
    tx: &mut SqliteConnection,
    charge: Charge<'_>,
    now: u64,
) -> Result<Charged, StoreError> {
    let closed_below: i64 =
        sqlx::query_scalar("SELECT closed_below FROM issuer").fetch_one(&mut *tx).await?;
    let Some(epoch) = charge.epoch.filter(|epoch| *epoch >= closed_below as u64) else {
        return Ok(Charged::UnknownKey);
    };
    let charged = sqlx::query(
        "UPDATE vouchers SET balance = balance - ?2
         WHERE code_hash = ?1 AND balance >= ?2 AND expires_at > ?3 AND revoked_at IS NULL
         RETURNING id",
    )
    .bind(&charge.code_hash[..])
    .bind(charge.tokens as i64)
    .bind(now as i64)
    .fetch_optional(&mut *tx)
    .await?;
    if let Some(row) = charged {
        sqlx::query(
            "INSERT INTO charges (voucher_id, body_hash, epoch, tokens, replays, window_start)
             VALUES (?1, ?2, ?3, ?4, 0, ?5)",
        )
        .bind(row.try_get::<i64, _>("id")?)
        .bind(&charge.body_hash[..])
        .bind(epoch as i64)
        .bind(charge.tokens as i64)
        .bind(now as i64)
        .execute(tx)
        .await?;
        return Ok(Charged::Answer(epoch));
    }
    let row =
        sqlx::query("SELECT balance, expires_at, revoked_at FROM vouchers WHERE code_hash = ?1")
            .bind(&charge.code_hash[..])
            .fetch_optional(tx)
            .await?;
    let Some(row) = row else { return Ok(Charged::Unknown) };
    Ok(if row.try_get::<Option<i64>, _>("revoked_at")?.is_some() {
        Charged::Revoked
    } else if row.try_get::<i64, _>("expires_at")? as u64 <= now {
        Charged::Expired
    } else {
        Charged::Exhausted(row.try_get::<i64, _>("balance")? as u64)
    })
}
