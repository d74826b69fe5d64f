//! What the relay cannot be faster than: its cryptography alone, and the same rows written to
//! the same kind of database by nobody else.

use std::path::Path;
use std::time::{Duration, Instant};

use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, QueryBuilder};

use super::steps::{Tocyn, measure};
use crate::cli::CliResult;

/// How long the database is measured.
const WRITING: Duration = Duration::from_secs(3);
/// Rows in one statement.
const ROWS: usize = 64;

/// Tokens that one core verifies in a second, in batches of 32.
pub(crate) fn redeems_per_second() -> f64 {
    let mut steps = [Tocyn::new().redeem_bound(32)];
    1e6 / measure(&mut steps, 32, 15)[0]
}

/// Spent nonces and messages that SQLite stores in a second, durably, with `batch` of each in a
/// transaction.
pub(crate) async fn inserts_per_second(
    folder: &Path,
    batch: usize,
    cell_bytes: usize,
) -> CliResult<f64> {
    let dir = tempfile::tempdir_in(folder)?;
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
        "CREATE TABLE messages (seq INTEGER PRIMARY KEY, received_at INTEGER NOT NULL,
         message_id BLOB NOT NULL, cell BLOB NOT NULL) STRICT",
    ] {
        sqlx::query(table).execute(&mut db).await?;
    }
    let random = || {
        let mut bytes = [0; 32];
        UnwrapErr(SysRng).fill_bytes(&mut bytes);
        bytes.to_vec()
    };
    let (start, mut rows, cell) = (Instant::now(), 0, vec![7; cell_bytes]);
    while start.elapsed() < WRITING {
        let mut keys: Vec<(i64, Vec<u8>, Vec<u8>)> =
            (1..=batch as i64).map(|n| (rows + n, random(), random())).collect();
        let mut tx = db.begin_with("BEGIN IMMEDIATE").await?;
        for run in keys.chunks(ROWS) {
            let mut insert =
                QueryBuilder::new("INSERT INTO messages (seq, received_at, message_id, cell) ");
            insert.push_values(run, |mut row, (seq, _, id)| {
                row.push_bind(seq).push_bind(1).push_bind(id).push_bind(&cell);
            });
            insert.build().execute(&mut *tx).await?;
        }
        keys.sort_by(|a, b| a.1.cmp(&b.1));
        for run in keys.chunks(ROWS) {
            let mut insert =
                QueryBuilder::new("INSERT INTO spent (nonce, seq, received_at, message_id) ");
            insert.push_values(run, |mut row, (seq, nonce, id)| {
                row.push_bind(nonce).push_bind(seq).push_bind(1).push_bind(id);
            });
            insert.build().execute(&mut *tx).await?;
        }
        tx.commit().await?;
        rows += batch as i64;
    }
    let rate = rows as f64 / start.elapsed().as_secs_f64();
    db.close().await?;
    Ok(rate)
}
