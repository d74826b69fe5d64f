//! Opens the file and ties it to a pairing.

use std::path::Path;
use std::time::Duration;

use sqlx::Connection;
use sqlx::migrate::MigrateError;
use sqlx::sqlite::SqlitePoolOptions;
use tocyn_durable::sqlite;

use super::{SqliteStore, StoreError};
use crate::store::NEW_PAIRING;
use crate::store::bound::{self, Bound, Change};

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations/sqlite");

/// How long a statement waits for another process, as `voucher create` beside `serve`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Waits until this process alone opens the database in `folder`; the lock goes with the file. On
/// the folder, because closing the database's own file would drop SQLite's locks on it.
fn lock_folder(folder: &Path) -> std::io::Result<std::fs::File> {
    let folder = std::fs::File::open(folder)?;
    folder.lock()?;
    Ok(folder)
}

impl SqliteStore {
    /// Opens the database at `path`, makes it (mode 0600) if it is not there, and brings its
    /// tables up to date. If its vouchers were moved elsewhere, it opens only `to_move` them.
    pub(in crate::store) async fn open(path: &Path, to_move: bool) -> Result<Self, StoreError> {
        let refuse =
            |reason: String| StoreError::Open { database: path.display().to_string(), reason };
        tocyn_durable::names::open_or_create(path, 0o600)
            .map_err(|error| refuse(error.to_string()))?;
        // `serve` and `voucher create` may both be the first: one at a time makes the tables.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).to_owned();
        let locked = tokio::task::spawn_blocking(move || lock_folder(&folder)).await;
        let _first = locked
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(|error| refuse(error.to_string()))?;
        let options = sqlite::options(path).foreign_keys(true).busy_timeout(BUSY_TIMEOUT);
        let unreadable = |error: sqlx::Error| match error.as_database_error() {
            // SQLITE_CORRUPT and SQLITE_NOTADB.
            Some(e) if matches!(e.code().as_deref(), Some("11" | "26")) => {
                refuse(format!("{error}: the file is damaged; restore it and renew the pairing"))
            }
            _ => refuse(error.to_string()),
        };
        // A connection to a file needs no test before each use, which would cost as much as a query.
        // One whose transaction was given up is not used again: where SQLite has ended that by
        // itself, as when the disk is full, it would wait for its end for ever.
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .test_before_acquire(false)
                .after_release(|connection, _| {
                    let good = !connection.is_in_transaction();
                    Box::pin(async move { Ok(good) })
                })
        };
        // Its connection stays, so that no other one is the first to read the WAL.
        let writer = pool(1).idle_timeout(None).max_lifetime(None);
        let writer = writer.after_connect(|connection, _| Box::pin(sqlite::settle(connection)));
        let writer = writer.connect_with(options.clone()).await.map_err(unreadable)?;
        let mut first = writer.acquire().await.map_err(unreadable)?;
        let stranger = sqlite::stranger(&mut first, "tocyn-issuer", "blocks").await;
        drop(first);
        if let Some(why) = stranger.map_err(unreadable)? {
            return Err(refuse(why));
        }
        MIGRATOR.run(&writer).await.map_err(|error| match error {
            MigrateError::VersionMissing(_) => {
                refuse("the tables were made by a newer tocyn-issuer; update this one".to_owned())
            }
            error => refuse(error.to_string()),
        })?;
        let readers = pool(4).connect_with(options).await.map_err(unreadable)?;
        let store = Self { writer, readers };
        if !to_move && let Some(target) = store.moved_to().await? {
            store.close().await;
            return Err(refuse(format!(
                "these vouchers were moved to PostgreSQL, where they may have been charged since; \
                 set database.url in config.toml to where they are ({target}). If the move was \
                 cut short, run the same `db copy` again"
            )));
        }
        Ok(store)
    }

    /// Whether the tables of a file that is there are as this version has them; false where there
    /// are none. Nothing is changed.
    pub(in crate::store) async fn is_current(path: &Path) -> Result<bool, sqlx::Error> {
        let options = sqlite::options(path).busy_timeout(BUSY_TIMEOUT);
        let mut connection = sqlite::connect(&options).await?;
        let version = "SELECT max(version) FROM _sqlx_migrations WHERE success";
        let version: Result<Option<i64>, _> =
            sqlx::query_scalar(version).fetch_one(&mut connection).await;
        let newest = MIGRATOR.iter().map(|migration| migration.version).max();
        match version {
            Ok(version) => Ok(version >= newest),
            // There is no such table, in a file that can be read.
            Err(error)
                if error.as_database_error().is_some_and(|e| e.code().as_deref() == Some("1")) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// What it is bound to, and which ids of `asked` are retired.
    pub(in crate::store) async fn bound(
        &self,
        asked: &Bound,
    ) -> Result<(bound::Stored, Vec<Vec<u8>>), StoreError> {
        let stored = sqlx::query_as(bound::STORED).fetch_one(&self.readers).await?;
        let retired = sqlx::query_scalar(bound::RETIRED);
        let retired = retired.bind(&asked.pairing_id[..]).bind(&asked.keys_id[..]);
        Ok((stored, retired.fetch_all(&self.readers).await?))
    }

    /// Whether there are vouchers in this file that were not moved elsewhere.
    pub(in crate::store) async fn is_in_use(path: &Path) -> Result<bool, StoreError> {
        let options = sqlite::options(path).busy_timeout(BUSY_TIMEOUT);
        let mut connection = sqlite::connect(&options).await?;
        let in_use = "SELECT EXISTS (SELECT 1 FROM vouchers) AND NOT EXISTS (SELECT 1 FROM moved)";
        // A file without these tables is of an issuer that never could move.
        Ok(sqlx::query_scalar(in_use).fetch_one(&mut connection).await.unwrap_or(true))
    }

    pub(in crate::store) async fn bind(&self, new: Bound) -> Result<(), StoreError> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let stored = sqlx::query_as(bound::STORED).fetch_one(&mut *tx).await?;
        let retired = sqlx::query_scalar(bound::RETIRED);
        let retired = retired.bind(&new.pairing_id[..]).bind(&new.keys_id[..]);
        let retired: Vec<Vec<u8>> = retired.fetch_all(&mut *tx).await?;
        let change = new.claim(&stored, &retired).map_err(|reason| StoreError::Open {
            database: self.file().display().to_string(),
            reason,
        })?;
        let old = match change {
            Change::None => return Ok(()),
            Change::Keys(old) => old,
            Change::Pairing(old) => {
                if old.is_some() {
                    tracing::warn!("{NEW_PAIRING}");
                }
                for table in ["DELETE FROM charges", "DELETE FROM issued", "DELETE FROM redeemed"] {
                    sqlx::query(table).execute(&mut *tx).await?;
                }
                sqlx::query("UPDATE vouchers SET refilled_epoch = -1").execute(&mut *tx).await?;
                sqlx::query("UPDATE issuer SET closed_below = 0").execute(&mut *tx).await?;
                old
            }
        };
        if let Some(old) = old {
            let retire = sqlx::query("INSERT INTO retired_pairings (pairing_id) VALUES (?1)");
            retire.bind(old).execute(&mut *tx).await?;
        }
        sqlx::query(
            "UPDATE issuer SET pairing_id = ?1, keys_id = ?2, issuer_name = ?3, origin_name = ?4",
        )
        .bind(&new.pairing_id[..])
        .bind(&new.keys_id[..])
        .bind(&new.issuer_name)
        .bind(&new.origin_name)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }
}
