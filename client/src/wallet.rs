//! The wallet: a SQLite file, mode 0600, in a folder of mode 0700. All SQL of this crate is
//! here and in the modules below.
//!
//! A token is *pending* (its blind is saved before the request is sent), *unspent*, *reserved*
//! for a message (saved before the post is sent) or *spent*. Both requests may be repeated, so
//! a crash at any point loses nothing: what was begun is sent again.

mod groups;
mod health;
mod messages;
mod origins;
mod outbox;
mod parts;
mod pending;
pub mod proxy;
mod reserved;
mod trees;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqlitePool, SqlitePoolOptions, SqliteRow};
use sqlx::{Row, SqliteConnection};
use tocyn_durable::{names, sqlite};
use tocyn_protocol::error::DecodeError;
use tocyn_protocol::keys::PublicKey;
use tocyn_protocol::log::note::{NoteError, VerifierKey};
use tocyn_protocol::relay::MessageId;

use crate::evidence::{Evidence, Verdict};
use crate::keys::EpochKey;

pub use groups::{Group, NewGroup};
pub use health::{GroupHealth, Incomplete, Member, Missing};
pub use messages::{StoredMessage, Taken};
pub use origins::{GrownLog, Offer, Pin};
pub use outbox::Waiting;
pub use pending::SavedBatch;
pub use reserved::Reserved;
pub use trees::{CheckedLog, Claim, FaultFound, Growing, WalletTiles};

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");
/// The database in a wallet's folder.
const FILE: &str = "wallet.sqlite";
/// How long to wait for another command on the same wallet, and how often to look.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
const LOCK_POLL: Duration = Duration::from_millis(20);
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The wallet cannot be used. Nothing was lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalletError {
    /// A file cannot be made, opened or locked.
    #[error("wallet {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file that names the proxy does not.
    #[error(
        "{0} names no proxy that can be used; correct it (socks5h://HOST:PORT), or remove it to go \
         without"
    )]
    Proxy(PathBuf),
    /// Another command holds the wallet.
    #[error("wallet {0} is in use by another tocyn command; try again when that has ended")]
    InUse(PathBuf),
    /// The file is no wallet of this version, or damaged.
    #[error("wallet {path} cannot be opened: {why}; use another --wallet folder, or a backup")]
    Open {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A row that makes no sense.
    #[error("the wallet is damaged: {0}")]
    Damaged(#[from] DecodeError),
    /// A statement failed.
    #[error("the wallet cannot be read or written: {0}")]
    Database(#[source] sqlx::Error),
}

/// Numbers of tokens for one origin, by state.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Balance {
    /// Where they are spent: the origin key.
    pub origin_key: VerifierKey,
    /// The origin's name.
    pub origin_name: String,
    /// Who has issued them.
    pub issuer_name: String,
    /// The addresses at which this wallet has met the origin.
    pub addresses: Vec<String>,
    /// Asked for, not received.
    pub pending: u64,
    /// Ready to use.
    pub unspent: u64,
    /// Tied to messages whose receipt has not come.
    pub reserved: u64,
    /// Used.
    pub spent: u64,
    /// Unused, and past their end by this machine's clock.
    pub expired: u64,
    /// Gone without a message: expired, disputed, or given up.
    pub given_up: u64,
    /// Unix second at which the first of the unspent tokens expires.
    pub next_expiry: Option<u64>,
}

impl From<sqlx::Error> for WalletError {
    /// Does not return where a sync has failed.
    fn from(error: sqlx::Error) -> Self {
        sqlite::exit_if_sync_failed(&error);
        Self::Database(error)
    }
}

/// An open wallet.
#[derive(Clone)]
pub struct Wallet {
    pool: SqlitePool,
    dir: PathBuf,
    _lock: Arc<File>,
}

impl Wallet {
    /// Whether there is a wallet in the folder `dir`, or something that cannot be looked at.
    pub fn exists(dir: &Path) -> bool {
        dir.join(FILE).try_exists().unwrap_or(true)
    }

    /// Opens the wallet in the folder `dir` for this process alone, or makes it.
    pub async fn open(dir: &Path) -> Result<Self, WalletError> {
        let io = |path: &Path, source| WalletError::Io { path: path.to_owned(), source };
        names::create_dir(dir, 0o700).map_err(|error| io(dir, error))?;
        let file = |name: &str| {
            let path = dir.join(name);
            let opened = names::open_or_create(&path, 0o600);
            opened.map_err(|error| io(&path, error)).map(|file| (path, file))
        };
        let (lock_path, lock) = file("lock")?;
        let give_up = Instant::now() + LOCK_PATIENCE;
        while let Err(error) = lock.try_lock() {
            match error {
                TryLockError::WouldBlock if Instant::now() < give_up => {
                    tokio::time::sleep(LOCK_POLL).await;
                }
                TryLockError::WouldBlock => return Err(WalletError::InUse(dir.into())),
                TryLockError::Error(error) => return Err(io(&lock_path, error)),
            }
        }
        let (path, _) = file(FILE)?;
        let options = sqlite::options(&path)
            // The only connection copies all of the WAL or, where that fails, all of it again.
            .pragma("wal_autocheckpoint", "1000")
            .foreign_keys(true)
            .pragma("secure_delete", "ON") // what is deleted is overwritten
            .busy_timeout(BUSY_TIMEOUT);
        let refuse = |why: String| WalletError::Open { path: path.clone(), why };
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .after_connect(|connection, _| Box::pin(sqlite::settle(connection)))
            .connect_with(options)
            .await;
        let pool = pool.map_err(|error| refuse(error.to_string()))?;
        MIGRATOR.run(&pool).await.map_err(|error| refuse(error.to_string()))?;
        Ok(Self { pool, dir: dir.to_owned(), _lock: Arc::new(lock) })
    }

    /// Keeps evidence in a file, and what it shows in the list of faults. Gives the file's path.
    pub async fn keep_evidence(
        &self,
        evidence: &Evidence,
        verdict: &Verdict,
    ) -> Result<String, WalletError> {
        let (text, key) = (evidence.to_json(), &evidence.log_key);
        let hash = MessageId::of(text.as_bytes()).to_string();
        let name = &key.name()[..key.name().len().min(64)];
        let dir = self.dir.join("evidence");
        let path = dir.join(format!("{name}-{}-{}.json", evidence.kind(), &hash[..16]));
        let shown = path.display().to_string();
        let written = names::create_dir(&dir, 0o700)
            .and_then(|()| names::replace(&path, 0o600, text.as_bytes()));
        // Also where the disk is full it is known that there was something.
        let file = written.is_ok().then_some(shown.as_str());
        self.keep_fault(key, &verdict.to_string(), file).await?;
        written.map(|()| shown).map_err(|source| WalletError::Io { path, source })
    }

    /// Copies the WAL back into the file, and closes it.
    pub async fn close(self) {
        if let Ok(mut connection) = self.pool.acquire().await {
            // A sync that failed ends the process. Any other error leaves it to the next command.
            let _ = sqlite::checkpoint(&mut connection).await;
        }
        self.pool.close().await;
    }

    /// How many unspent tokens of the origin are of these keys.
    pub async fn spendable(
        &self,
        origin: &VerifierKey,
        shown: &[EpochKey],
        now: u64,
    ) -> Result<u64, WalletError> {
        let rows = sqlx::query(
            "SELECT token_key, epoch, not_before, not_after, count(*) AS tokens
             FROM tokens JOIN token_keys ON token_keys.id = key_id
             WHERE origin_key = ?1 AND not_after > ?2 AND cell IS NULL GROUP BY key_id",
        )
        .bind(origin.to_string())
        .bind(now as i64)
        .fetch_all(&self.pool)
        .await?;
        let mut spendable = 0;
        for row in &rows {
            if shown.contains(&epoch_key(row)?) {
                spendable += row.try_get::<i64, _>("tokens")? as u64;
            }
        }
        Ok(spendable)
    }

    /// Drops unspent tokens and pending batches of the origin that are over both by this machine's
    /// clock and by the keys that are `shown`: a clock that is wrong once must not empty the wallet.
    /// Messages stay. Returns how many tokens went.
    pub async fn drop_expired(
        &self,
        origin: &VerifierKey,
        shown: &[EpochKey],
        now: u64,
    ) -> Result<u64, WalletError> {
        let oldest = shown.iter().map(|key| key.not_before).min().unwrap_or(0);
        let over = "SELECT id FROM token_keys
                    WHERE origin_key = ?1 AND not_after <= ?2 AND not_before < ?3";
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let keys: Vec<i64> = sqlx::query_scalar(over)
            .bind(origin.to_string())
            .bind(now as i64)
            .bind(oldest as i64)
            .fetch_all(&mut *tx)
            .await?;
        let mut dropped = 0;
        for id in keys {
            dropped += sqlx::query("DELETE FROM tokens WHERE key_id = ?1 AND cell IS NULL")
                .bind(id)
                .execute(&mut *tx)
                .await?
                .rows_affected();
            let pending: Vec<i64> =
                sqlx::query_scalar("DELETE FROM batches WHERE key_id = ?1 RETURNING tokens")
                    .bind(id)
                    .fetch_all(&mut *tx)
                    .await?;
            dropped += pending.iter().sum::<i64>() as u64;
        }
        count(&mut tx, origin, 0, dropped).await?;
        tx.commit().await?;
        Ok(dropped)
    }

    /// Numbers of tokens for each origin that the wallet knows.
    pub async fn balance(&self, now: u64) -> Result<Vec<Balance>, WalletError> {
        let mut balances = Vec::new();
        for pin in self.pins().await? {
            let row = sqlx::query(
                "SELECT count(*) FILTER (WHERE cell IS NULL AND not_after > ?2) AS unspent,
                     count(*) FILTER (WHERE cell IS NOT NULL) AS reserved,
                     count(*) FILTER (WHERE cell IS NULL AND not_after <= ?2) AS expired,
                     min(not_after) FILTER (WHERE cell IS NULL AND not_after > ?2) AS next_expiry,
                     (SELECT coalesce(sum(tokens), 0) FROM batches WHERE key_id IN
                         (SELECT id FROM token_keys WHERE origin_key = ?1)) AS pending,
                     (SELECT coalesce(sum(spent), 0) FROM totals WHERE origin_key = ?1) AS spent,
                     (SELECT coalesce(sum(given_up), 0) FROM totals WHERE origin_key = ?1) AS given_up
                 FROM tokens JOIN token_keys ON token_keys.id = key_id WHERE origin_key = ?1",
            )
            .bind(pin.key.to_string())
            .bind(now as i64)
            .fetch_one(&self.pool)
            .await?;
            let number = |name| Ok::<u64, sqlx::Error>(row.try_get::<i64, _>(name)? as u64);
            balances.push(Balance {
                origin_name: pin.key.name().to_owned(),
                issuer_name: pin.statement.issuer_name.clone(),
                addresses: self.addresses(&pin.key).await?,
                origin_key: pin.key,
                pending: number("pending")?,
                unspent: number("unspent")?,
                reserved: number("reserved")?,
                spent: number("spent")?,
                expired: number("expired")?,
                given_up: number("given_up")?,
                next_expiry: row.try_get::<Option<i64>, _>("next_expiry")?.map(|at| at as u64),
            });
        }
        Ok(balances)
    }
}

/// Adds to the numbers of tokens that are gone.
async fn count(
    tx: &mut SqliteConnection,
    origin: &VerifierKey,
    spent: u64,
    given_up: u64,
) -> Result<(), WalletError> {
    if (spent, given_up) == (0, 0) {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO totals (origin_key, spent, given_up) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET
             spent = spent + excluded.spent, given_up = given_up + excluded.given_up",
    )
    .bind(origin.to_string())
    .bind(spent as i64)
    .bind(given_up as i64)
    .execute(tx)
    .await?;
    Ok(())
}

/// A signed note in the wallet that does not open.
fn damaged_note(_: NoteError) -> WalletError {
    DecodeError::Text { what: "signed note", why: "it does not open" }.into()
}

fn epoch_key(row: &SqliteRow) -> Result<EpochKey, WalletError> {
    Ok(EpochKey {
        key: PublicKey::from_bytes(&row.try_get::<Vec<u8>, _>("token_key")?)?,
        epoch: row.try_get::<i64, _>("epoch")? as u64,
        not_before: row.try_get::<i64, _>("not_before")? as u64,
        not_after: row.try_get::<i64, _>("not_after")? as u64,
    })
}

/// A column of 32 bytes.
fn bytes32(row: &SqliteRow, name: &str) -> Result<[u8; 32], WalletError> {
    let bytes: &[u8] = row.try_get(name)?;
    let damaged = DecodeError::Text { what: "column", why: "it must have 32 bytes" };
    bytes.try_into().map_err(|_| damaged.into())
}
