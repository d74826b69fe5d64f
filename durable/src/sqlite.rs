//! SQLite in WAL mode, so that what a program reads there survives the next power cut.
//!
//! SQLite makes each commit durable before it shows it to another connection. Two cases are left
//! to its users:
//!
//! * Recovery. The first connection to a database takes every whole transaction that it can *read*
//!   in the WAL. One that a killed process had written and not synced is only in the system's
//!   cache: see [`settle`].
//! * A failed sync. The kernel reports it once, and drops what it could not write: the next sync
//!   succeeds without it. So nobody may go on: see [`exit_if_sync_failed`].

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use crate::names;

/// Bytes of the WAL that are written again at once.
const CHUNK_BYTES: usize = 1 << 20;
/// The WAL is cut back to this many bytes when it starts anew. A longer one was left by a reader
/// that held it open; a shorter one would have to grow again, which makes each sync slower.
const WAL_BYTES: &str = "134217728"; // 128 MiB

/// Options for every connection of this project: nothing is copied back within a commit, where
/// SQLite would drop the error of a failed sync.
pub fn options(path: &Path) -> SqliteConnectOptions {
    use sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", WAL_BYTES)
        .pragma("wal_autocheckpoint", "0")
}

/// Connects, and [`settle`]s.
///
/// # Errors
/// If the database cannot be opened or locked.
pub async fn connect(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    settle(&mut connection).await?;
    Ok(connection)
}

/// Connects to read beside a process that may write, without holding it up. [`settle`]s, unless the
/// database is being written to: the writer has settled it.
///
/// # Errors
/// If the database cannot be opened.
pub async fn connect_beside(
    options: &SqliteConnectOptions,
) -> Result<SqliteConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    let patience: i64 =
        sqlx::query_scalar("PRAGMA busy_timeout").fetch_one(&mut connection).await?;
    sqlx::raw_sql("PRAGMA busy_timeout = 0").execute(&mut connection).await?;
    match settle(&mut connection).await {
        Err(error) if is_busy(&error) => {}
        settled => settled?,
    }
    let again = sqlx::AssertSqlSafe(format!("PRAGMA busy_timeout = {patience}"));
    sqlx::raw_sql(again).execute(&mut connection).await?;
    Ok(connection)
}

/// Makes durable what this connection reads from the WAL. To be called on the first connection of a
/// process, before anything of the database is read, shown, signed or answered; while that one is
/// open, no other needs it.
///
/// All of the WAL is written again in place, and then synced: after a failed sync the kernel takes
/// its pages for written, and a sync alone would not write them. The write lock keeps others from
/// changing the WAL meanwhile; those who read it find the same bytes.
///
/// A write or a sync that fails here ends the process, as [`exit_if_sync_failed`] does.
///
/// # Errors
/// If the database is locked for too long, or the WAL cannot be opened.
pub async fn settle(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let file: String =
        sqlx::query_scalar("SELECT file FROM pragma_database_list WHERE name = 'main'")
            .fetch_one(&mut *tx)
            .await?;
    if !file.is_empty() {
        let wal = PathBuf::from(file + "-wal");
        match OpenOptions::new().read(true).write(true).open(&wal) {
            Ok(file) => {
                let written = tokio::task::spawn_blocking(move || write_again(file)).await;
                let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
                if let Err(error) = written.and_then(|()| names::sync_parent(&wal)) {
                    exit(&error); // not a close, which would copy back what is not durable
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    tx.rollback().await
}

fn write_again(mut file: File) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        file.seek(SeekFrom::Start(at))?;
        let read = read_chunk(&mut file, &mut chunk)?;
        if read == 0 {
            break;
        }
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&chunk[..read])?;
        at += read as u64;
    }
    file.sync_all()
}

fn read_chunk(file: &mut File, chunk: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < chunk.len() {
        match file.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A reason not to make tables of `program` here: the database has those of another one. `others` is
/// the name of a table that only the other service of a pair has.
///
/// # Errors
/// If the database cannot be read.
pub async fn stranger(
    connection: &mut SqliteConnection,
    program: &str,
    others: &str,
) -> Result<Option<String>, sqlx::Error> {
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table'")
            .fetch_all(connection)
            .await?;
    let has = |name: &str| tables.iter().any(|table| table == name);
    let whose = match () {
        () if has(others) => "the other service of the pair",
        () if !tables.is_empty() && !has("_sqlx_migrations") => "another program",
        () => return Ok(None),
    };
    Ok(Some(format!(
        "this database holds the tables of {whose}; give {program} one of its own. Nothing was changed"
    )))
}

/// Copies what is in the WAL into the database file, as far as no reader needs the old pages. Never
/// waits for one: then some of it stays for the next time.
///
/// # Errors
/// Any SQLite error but those that [`exit_if_sync_failed`] ends the process for.
pub async fn checkpoint(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let copied = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(connection).await;
    copied.map(drop).inspect_err(exit_if_sync_failed)
}

/// A connection beside the one that writes, which copies the WAL back so that commits need not.
pub struct Checkpointer {
    connection: SqliteConnection,
    /// `PRAGMA data_version` at the last checkpoint: each commit of another connection changes it.
    version: i64,
}

impl Checkpointer {
    /// Connects. The writer's connection is open already, and [`settle`]d.
    ///
    /// # Errors
    /// If the database cannot be opened.
    pub async fn open(options: &SqliteConnectOptions) -> Result<Self, sqlx::Error> {
        Ok(Self { connection: options.connect().await?, version: -1 })
    }

    /// Whether anything was committed since the last [`Self::copy_back`].
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn is_behind(&mut self) -> Result<bool, sqlx::Error> {
        Ok(self.data_version().await? != self.version)
    }

    /// Copies back all but what is committed meanwhile. The caller then runs [`checkpoint`] on the
    /// writer's connection, in its turn: after that the next commit begins the WAL anew, without
    /// which it would only grow.
    ///
    /// # Errors
    /// As those of [`checkpoint`].
    pub async fn copy_back(&mut self) -> Result<(), sqlx::Error> {
        self.version = self.data_version().await?;
        checkpoint(&mut self.connection).await
    }

    /// Closes the connection.
    pub async fn close(self) {
        let _ = self.connection.close().await;
    }

    async fn data_version(&mut self) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut self.connection).await
    }
}

/// Ends the process at once, with status 1, if this is the error of a write or a sync that failed:
/// no later sync makes that durable, and a graceful close would copy back what is half there. The
/// next start finds the database as it is on the disk.
///
/// A full disk is no such error. Nor is one of PostgreSQL, whose server does the same by itself.
pub fn exit_if_sync_failed(error: &sqlx::Error) {
    if code(error).is_some_and(is_failed_sync) {
        exit(error);
    }
}

/// SQLite's extended result code, if the error is SQLite's.
fn code(error: &sqlx::Error) -> Option<u32> {
    let error = error
        .as_database_error()
        .filter(|error| error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some());
    error.and_then(|error| error.code()).and_then(|code| code.parse().ok())
}

/// Whether another connection holds the lock.
fn is_busy(error: &sqlx::Error) -> bool {
    const BUSY: u32 = 5; // SQLITE_BUSY, the low byte of its extended codes
    code(error).is_some_and(|code| code & 0xff == BUSY)
}

/// Ends the process without a core, which would have keys in it, and without closing the database.
fn exit(error: &dyn std::fmt::Display) -> ! {
    let why = "the disk failed to write or to sync the database, so this process ends at once. Nothing \
               that it has answered is lost: check the disk, then start it again";
    match tracing::dispatcher::has_been_set() {
        true => tracing::error!(%error, "{why}"),
        false => drop(writeln!(io::stderr(), "{error}: {why}")),
    }
    std::process::exit(1)
}

/// By SQLite's extended result code.
fn is_failed_sync(code: u32) -> bool {
    const WRITE: u32 = 778; // SQLITE_IOERR_WRITE
    const FSYNC: u32 = 1034; // SQLITE_IOERR_FSYNC
    const DIR_FSYNC: u32 = 1290; // SQLITE_IOERR_DIR_FSYNC
    const TRUNCATE: u32 = 1546; // SQLITE_IOERR_TRUNCATE
    const CORRUPTFS: u32 = 8458; // SQLITE_IOERR_CORRUPTFS
    matches!(code, WRITE | FSYNC | DIR_FSYNC | TRUNCATE | CORRUPTFS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_log_is_written_again_and_stays_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (path, wal) = (dir.path().join("a.sqlite"), dir.path().join("a.sqlite-wal"));
        let options = options(&path).create_if_missing(true);
        let mut first = connect(&options).await.unwrap();
        for statement in ["CREATE TABLE t (a BLOB)", "INSERT INTO t VALUES (zeroblob(3000000))"] {
            sqlx::query(statement).execute(&mut first).await.unwrap();
        }
        let before = std::fs::read(&wal).unwrap();
        let changed = || std::fs::metadata(&wal).unwrap().modified().unwrap();
        let written = changed();
        let mut second = connect(&options).await.unwrap();
        assert_eq!(std::fs::read(&wal).unwrap(), before);
        assert!(changed() > written);

        // A reader that goes on holds up neither a commit nor a checkpoint.
        let mut reading = second.begin().await.unwrap();
        let count = "SELECT count(*) FROM t";
        let _: i64 = sqlx::query_scalar(count).fetch_one(&mut *reading).await.unwrap();
        sqlx::query("INSERT INTO t VALUES (1)").execute(&mut first).await.unwrap();
        checkpoint(&mut first).await.unwrap();
        reading.rollback().await.unwrap();
        checkpoint(&mut first).await.unwrap();
        let alone = dir.path().join("b.sqlite");
        names::create_new(&alone, 0o600, &std::fs::read(&path).unwrap()).unwrap();
        let mut copy = options.filename(&alone).connect().await.unwrap();
        let found: i64 = sqlx::query_scalar(count).fetch_one(&mut copy).await.unwrap();
        assert_eq!(found, 2);
    }

    #[tokio::test]
    async fn a_full_disk_and_a_locked_database_end_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let options = options(&dir.path().join("a.sqlite")).create_if_missing(true);
        let mut connection = connect(&options.clone().pragma("max_page_count", "2")).await.unwrap();
        sqlx::query("CREATE TABLE t (a BLOB)").execute(&mut connection).await.unwrap();
        let full = sqlx::query("INSERT INTO t VALUES (zeroblob(99999))").execute(&mut connection);
        exit_if_sync_failed(&full.await.unwrap_err());

        let _held = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let impatient = options.busy_timeout(std::time::Duration::ZERO);
        exit_if_sync_failed(&connect(&impatient).await.unwrap_err());
    }
}
