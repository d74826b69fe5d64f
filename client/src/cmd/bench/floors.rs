//! What the relay cannot be faster than: its cryptography alone, and the same rows written to
//! the same kind of database by nobody else.

#[cfg(feature = "postgres")]
mod postgres;

use std::path::Path;
use std::time::{Duration, Instant};

use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, QueryBuilder, SqliteConnection};

use super::steps::{Tocyn, measure};
use super::usage;
use crate::cli::CliResult;

/// How long the database is measured.
const WRITING: Duration = Duration::from_secs(3);
/// Rows in one statement; SQLite binds at most 32766 values.
const ROWS: usize = 4096;
/// Messages are stored together up to this size, as the relay does.
const BLOCK_BYTES: usize = 256 * 1024;

/// Both floors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floors {
    /// Tokens that one core verifies in a second, in batches of 32.
    pub(crate) redeems_per_core: f64,
    /// Posts whose rows the database stores in a second, durably.
    pub(crate) inserts: f64,
    /// Cores that storing them kept busy.
    pub(crate) inserts_cores: f64,
}

impl Floors {
    /// Measures both, `batch` posts in a transaction, on SQLite below this folder or in the
    /// PostgreSQL database of this URL.
    pub(crate) async fn measure(
        folder: &Path,
        database: Option<&str>,
        batch: usize,
        cell_bytes: usize,
    ) -> CliResult<Self> {
        let mut steps = [Tocyn::new().redeem_bound(32)];
        let redeems_per_core = 1e6 / measure(&mut steps, 32, 15)[0];
        let (inserts, inserts_cores) = match database {
            #[cfg(feature = "postgres")]
            Some(url) => postgres::inserts(url, batch, cell_bytes).await?,
            _ => inserts(folder, batch, cell_bytes).await?,
        };
        Ok(Self { redeems_per_core, inserts, inserts_cores })
    }

    /// Posts a second that the slower floor allows on so many cores.
    pub(crate) fn allowed(&self, cores: f64) -> f64 {
        let crypto = self.redeems_per_core * cores;
        // With fewer cores than it kept busy, the floor would have been lower.
        let inserts = self.inserts * (cores / self.inserts_cores.max(0.01)).min(1.0);
        crypto.min(inserts)
    }

    pub(crate) fn to_json(self) -> Value {
        json!({
            "redeems_per_second_1_core": self.redeems_per_core,
            "inserts_per_second": self.inserts,
            "inserts_cores": self.inserts_cores,
        })
    }
}

/// Posts a second, and the cores that they kept busy.
async fn inserts(folder: &Path, batch: usize, cell_bytes: usize) -> CliResult<(f64, f64)> {
    let dir = tempfile::Builder::new()
        .prefix("tocyn-bench-")
        .tempdir_in(folder)
        .map_err(|error| format!("{}: {error}; give --folder DIR", folder.display()))?;
    let mut db = SqliteConnectOptions::new()
        .filename(dir.path().join("floor.sqlite"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await?;
    for table in [
        "CREATE TABLE spent (nonce BLOB PRIMARY KEY, seq INTEGER NOT NULL,
         received_at INTEGER NOT NULL, message_id BLOB NOT NULL) STRICT, WITHOUT ROWID",
        "CREATE TABLE blocks (first_seq INTEGER PRIMARY KEY, messages INTEGER NOT NULL,
         received_at INTEGER NOT NULL, frames BLOB NOT NULL) STRICT",
    ] {
        sqlx::query(table).execute(&mut db).await?;
    }
    let cell = vec![7; cell_bytes];
    let me = std::process::id();
    let (start, cpu, mut rows) = (Instant::now(), usage::cpu_seconds(me), 0);
    while start.elapsed() < WRITING {
        let mut tx = db.begin_with("BEGIN IMMEDIATE").await?;
        insert(&mut tx, rows, batch, &cell).await?;
        tx.commit().await?;
        rows += batch;
    }
    let took = start.elapsed().as_secs_f64();
    let used = usage::cpu_seconds(me).zip(cpu).map_or(1.0, |(now, before)| (now - before) / took);
    db.close().await?;
    Ok((rows as f64 / took, used))
}

/// The rows of `batch` posts whose sequences come after `last`.
async fn insert(
    db: &mut SqliteConnection,
    last: usize,
    batch: usize,
    cell: &[u8],
) -> Result<(), sqlx::Error> {
    let mut random = vec![[0; 64]; batch];
    random.iter_mut().for_each(|bytes| UnwrapErr(SysRng).fill_bytes(bytes));
    let mut spent: Vec<(&[u8], i64, &[u8])> = random
        .iter()
        .zip(last as i64 + 1..)
        .map(|(bytes, seq)| (&bytes[..32], seq, &bytes[32..]))
        .collect();
    spent.sort_unstable();
    for run in spent.chunks(ROWS) {
        let mut insert =
            QueryBuilder::new("INSERT INTO spent (nonce, seq, received_at, message_id) ");
        insert.push_values(run, |mut row, (nonce, seq, id)| {
            row.push_bind(*nonce).push_bind(seq).push_bind(1).push_bind(*id);
        });
        insert.build().execute(&mut *db).await?;
    }
    let sequences: Vec<u64> = (last as u64 + 1..).take(batch).collect();
    for block in sequences.chunks((BLOCK_BYTES / (8 + cell.len())).max(1)) {
        let mut frames = Vec::with_capacity(block.len() * (8 + cell.len()));
        for seq in block {
            frames.extend_from_slice(&seq.to_be_bytes());
            frames.extend_from_slice(cell);
        }
        let insert =
            "INSERT INTO blocks (first_seq, messages, received_at, frames) VALUES (?, ?, 1, ?)";
        let insert = sqlx::query(insert).bind(block[0] as i64).bind(block.len() as i64);
        insert.bind(frames).execute(&mut *db).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_floor_counts_on_the_cores_that_are_left() {
        let floors = Floors { redeems_per_core: 30_000.0, inserts: 20_000.0, inserts_cores: 1.0 };
        assert_eq!(floors.allowed(2.0), 20_000.0);
        assert_eq!(floors.allowed(0.5), 10_000.0);
        assert_eq!(floors.allowed(0.0), 0.0);
        let slow = Floors { redeems_per_core: 5_000.0, ..floors };
        assert_eq!(slow.allowed(1.5), 7_500.0);
    }

    #[tokio::test]
    async fn the_floor_writes_every_row_once() {
        let mut db = SqliteConnectOptions::new().in_memory(true).connect().await.unwrap();
        for table in [
            "CREATE TABLE spent (nonce BLOB PRIMARY KEY, seq INTEGER, received_at INTEGER, message_id BLOB)",
            "CREATE TABLE blocks (first_seq INTEGER PRIMARY KEY, messages INTEGER, received_at INTEGER, frames BLOB)",
        ] {
            sqlx::query(table).execute(&mut db).await.unwrap();
        }
        insert(&mut db, 0, 300, &[7; 2048]).await.unwrap();
        insert(&mut db, 300, 10, &[7; 2048]).await.unwrap();
        let counts: (i64, i64, i64, i64, i64) = sqlx::query_as(
            "SELECT count(*), count(DISTINCT seq), max(seq), (SELECT sum(messages) FROM blocks),
             (SELECT sum(length(frames)) FROM blocks) FROM spent",
        )
        .fetch_one(&mut db)
        .await
        .unwrap();
        assert_eq!(counts, (310, 310, 310, 310, 310 * 2056));
    }
}
