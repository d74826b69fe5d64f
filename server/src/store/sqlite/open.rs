//! Opens the database and ties it to a pairing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Connection, SqliteConnection};
use tocyn_durable::sqlite;

use super::super::page::{BLOCK_BYTES, SEQUENCE_BYTES};
use super::writer::Writer;
use super::{SqliteStore, StoreError, Tail, spent};
use crate::store::owner::{BOUND, Bound, Change, Owner};
use crate::store::{NOT_UP_TO_DATE, NOTHING_YET, Purpose};

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations/sqlite");

/// How long a statement waits for another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// SQLite's cache of pages in the writer, in its notation of KiB: two large transactions. More
/// costs more than it saves, because SQLite walks all of it at the end of a transaction that split
/// a page, until the database has 1 GiB; and what is not here is in the system's cache.
const WRITER_CACHE_KIB: &str = "-8192";
/// Files up to this size are checked for damage at each start, which takes about a second for each
/// GiB once they are in memory. `db check` checks any.
const CHECK_BYTES: u64 = 4 << 30;
/// How often to look whether a checkpoint is due.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes of a page, in a new database. Each nonce that is spent writes at least one.
pub(super) const PAGE_BYTES: u32 = 4096;
/// Connections that read.
const READERS: u32 = 4;
/// SQLite's cache of pages in each reader, in its notation of KiB. It holds the inner pages of
/// the tables; blocks pass by it.
const READER_CACHE_KIB: &str = "-512";

/// Lets the C library keep freed memory for blocks at hand. By default glibc maps what is larger
/// than 128 KiB anew each time, and the page faults cost a reader more than the database does.
/// Freeing a larger piece once raises that threshold (mallopt(3), `M_MMAP_THRESHOLD`).
fn reuse_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(4 * BLOCK_BYTES)));
}

fn damaged(found: &str) -> String {
    format!("{found}: the file is damaged; restore it from a backup and renew the pairing")
}

fn not_migrated(error: &MigrateError) -> String {
    match error {
        MigrateError::VersionMissing(_) => {
            "the tables were made by a newer tocyn-relay; update this one".to_owned()
        }
        error => error.to_string(),
    }
}

/// Of the tables: the newest migration that was made. None where there are no tables at all.
async fn version(connection: &mut SqliteConnection) -> Option<i64> {
    let version = "SELECT max(version) FROM _sqlx_migrations WHERE success";
    sqlx::query_scalar(version).fetch_one(connection).await.unwrap_or_default()
}

fn newest_version() -> Option<i64> {
    MIGRATOR.iter().map(|migration| migration.version).max()
}

fn refusal(path: &Path, reason: String) -> StoreError {
    StoreError::Open { database: path.display().to_string(), reason }
}

/// Makes the file if it is not there, for its owner only.
fn make_file(path: &Path) -> Result<(), StoreError> {
    let opened = tocyn_durable::names::open_or_create(path, 0o600);
    opened.map(drop).map_err(|error| refusal(path, error.to_string()))
}

async fn stranger(connection: &mut SqliteConnection) -> Result<Option<String>, sqlx::Error> {
    sqlite::stranger(connection, "tocyn-relay", "vouchers").await
}

fn unreadable(path: &Path, error: sqlx::Error) -> StoreError {
    match error.as_database_error() {
        // SQLITE_CORRUPT and SQLITE_NOTADB.
        Some(e) if matches!(e.code().as_deref(), Some("11" | "26")) => {
            refusal(path, damaged(&error.to_string()))
        }
        _ => refusal(path, error.to_string()),
    }
}

impl SqliteStore {
    /// Opens the file. To be served from, it is made (mode 0600) if it is not there.
    pub(in crate::store) async fn open(
        path: &Path,
        purpose: Purpose<'_>,
    ) -> Result<Self, StoreError> {
        reuse_freed_memory();
        let refuse = |reason| refusal(path, reason);
        let unreadable = |error| unreadable(path, error);
        match purpose {
            Purpose::Serve(..) => make_file(path)?,
            Purpose::Look | Purpose::Move if path.exists() => {}
            Purpose::Look | Purpose::Move => return Err(refuse(NOTHING_YET.to_owned())),
        }
        let options = sqlite::options(path).page_size(PAGE_BYTES).busy_timeout(BUSY_TIMEOUT);
        let writing = options
            .clone()
            .pragma("cache_size", WRITER_CACHE_KIB)
            // What a statement over many rows would need to undo itself stays in memory.
            .pragma("temp_store", "memory");
        let writer = Writer::open(writing).await.map_err(unreadable)?;
        match std::fs::metadata(path).map(|file| file.len()) {
            Ok(bytes) if bytes > CHECK_BYTES => tracing::info!(
                bytes,
                "this database is too large to be checked at each start; `tocyn-relay db check` does it"
            ),
            _ => {
                let found: String = sqlx::query_scalar("PRAGMA quick_check(1)")
                    .fetch_one(&mut *writer.turn().await?)
                    .await
                    .map_err(unreadable)?;
                if found != "ok" {
                    return Err(refuse(damaged(&found)));
                }
            }
        }
        if let Purpose::Look = purpose
            && version(&mut *writer.turn().await?).await < newest_version()
        {
            return Err(refuse(NOT_UP_TO_DATE.to_owned()));
        }
        if let Some(why) = stranger(&mut *writer.turn().await?).await? {
            return Err(refuse(why));
        }
        let migrated = MIGRATOR.run(&mut *writer.turn().await?).await;
        migrated.map_err(|error| refuse(not_migrated(&error)))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.pragma("cache_size", READER_CACHE_KIB))
            .await
            .map_err(unreadable)?;
        let cell_bytes = match purpose {
            Purpose::Serve(owner) => owner.cell_bytes,
            Purpose::Look | Purpose::Move => {
                let stored = sqlx::query_scalar::<_, i64>("SELECT cell_bytes FROM log");
                let stored = stored.fetch_optional(&readers).await.map_err(unreadable)?;
                stored.ok_or_else(|| refuse(NOTHING_YET.to_owned()))? as usize
            }
        };
        let frame_bytes = SEQUENCE_BYTES + cell_bytes;
        let tail = Arc::new(Tail::new(frame_bytes));
        let store = Self { writer, readers, tail, frame_bytes };
        if !matches!(purpose, Purpose::Move)
            && let Some(target) = store.moved_to().await?
        {
            store.close().await;
            return Err(refuse(format!(
                "this log was moved to PostgreSQL, where tokens may have been spent since; set \
                 database.url in config.toml to where it is ({target}). If the move was cut \
                 short, run the same `db copy` again"
            )));
        }
        if let Purpose::Serve(owner) = purpose
            && let Some(why) = store.bind(&owner).await?
        {
            store.close().await;
            return Err(refuse(why));
        }
        Ok(store)
    }

    /// Whether a relay has served from this file and its log was not moved elsewhere.
    pub(in crate::store) async fn is_in_use(path: &Path) -> Result<bool, StoreError> {
        let options = sqlite::options(path).page_size(PAGE_BYTES).busy_timeout(BUSY_TIMEOUT);
        let opened = sqlite::connect(&options).await;
        let mut connection = opened.map_err(|error| unreadable(path, error))?;
        let in_use = "SELECT EXISTS (SELECT 1 FROM log) AND NOT EXISTS (SELECT 1 FROM moved)";
        // A file without these tables is of a relay that never could move.
        Ok(sqlx::query_scalar(in_use).fetch_one(&mut connection).await.unwrap_or(true))
    }

    pub(in crate::store) async fn migrate(path: &Path) -> Result<bool, StoreError> {
        make_file(path)?;
        let options = sqlite::options(path).page_size(PAGE_BYTES).busy_timeout(BUSY_TIMEOUT);
        let opened = sqlite::connect(&options).await;
        let mut connection = opened.map_err(|error| unreadable(path, error))?;
        if let Some(why) = stranger(&mut connection).await? {
            return Err(refusal(path, why));
        }
        let before = version(&mut connection).await;
        let migrated = MIGRATOR.run(&mut connection).await;
        migrated.map_err(|error| refusal(path, not_migrated(&error)))?;
        Ok(before != newest_version())
    }

    /// Ties the database to a relay and its pairing. A reason not to, if there is one: then nothing
    /// was changed.
    async fn bind(&self, owner: &Owner<'_>) -> Result<Option<String>, StoreError> {
        let (id, key) = (&owner.pairing.id().0[..], owner.key.to_string());
        let mut writer = self.writer.turn().await?;
        let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
        let bound = sqlx::query_as(BOUND).bind(id).fetch_optional(&mut *tx).await?;
        let Some(bound): Option<Bound> = bound else {
            let insert =
                "INSERT INTO log (id, head, cell_bytes, pairing_id, closed_below, verifier_key)
                 VALUES (1, 0, ?1, ?2, 0, ?3)";
            let insert = sqlx::query(insert).bind(owner.cell_bytes as i64).bind(id).bind(key);
            insert.execute(&mut *tx).await?;
            tx.commit().await?;
            return Ok(None);
        };
        let change = match owner.claim(&bound) {
            Ok(Change::None) => return Ok(None),
            Ok(change) => change,
            Err(why) => return Ok(Some(why)),
        };
        if change == Change::Pairing {
            sqlx::query("INSERT INTO retired_pairings (pairing_id) SELECT pairing_id FROM log")
                .execute(&mut *tx)
                .await?;
            spent::clear(&mut tx).await?;
        }
        let update = sqlx::query("UPDATE log SET pairing_id = ?1, verifier_key = ?2");
        update.bind(id).bind(key).execute(&mut *tx).await?;
        tx.commit().await?;
        if change == Change::Pairing {
            tracing::info!("the pairing is new: the spent set of the old one was dropped");
        }
        Ok(None)
    }

    /// Shortens the write-ahead log if it is due; says whether it was.
    pub async fn checkpoint_if_due(&self) -> Result<bool, StoreError> {
        Ok(self.writer.checkpoint_if_due().await?)
    }

    /// Keeps the write-ahead log short, until this is dropped.
    pub(crate) async fn checkpoint_forever(&self) {
        loop {
            tokio::time::sleep(CHECKPOINT_INTERVAL).await;
            if let Err(error) = self.checkpoint_if_due().await {
                tracing::warn!(%error, "cannot shorten the database's WAL; it will be tried again");
            }
        }
    }

    /// Writes what is in the log into the file, and closes it.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
