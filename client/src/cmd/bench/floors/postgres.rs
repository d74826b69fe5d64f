//! The same rows written to PostgreSQL by nobody else: one statement for each batch, no order
//! between the connections.

use std::time::Instant;

use futures_util::future::try_join_all;
use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};

use super::{BLOCK_BYTES, WRITING};
use crate::cli::CliResult;
use crate::cmd::bench::usage;

/// Connections that write at once. More of them are not faster on few cores.
const CONNECTIONS: usize = 4;

/// Posts a second, and the cores of this machine that they kept busy.
pub(super) async fn inserts(url: &str, batch: usize, cell_bytes: usize) -> CliResult<(f64, f64)> {
    let server: PgConnectOptions = url.parse()?;
    let mut db = server.connect().await?;
    sqlx::raw_sql(
        "CREATE TABLE floor_spent (epoch bigint NOT NULL, nonce bytea NOT NULL, seq bigint NOT NULL,
             received_at bigint NOT NULL, message_id bytea NOT NULL, PRIMARY KEY (epoch, nonce));
         CREATE TABLE floor_blocks (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
             messages integer NOT NULL, received_at bigint NOT NULL, cells bytea NOT NULL);
         ALTER TABLE floor_blocks ALTER COLUMN cells SET STORAGE EXTERNAL",
    )
    .execute(&mut db)
    .await?;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(server.connect().await?);
    }
    let (start, busy) = (Instant::now(), usage::machine_seconds());
    let written = connections.into_iter().map(|db| write(db, start, batch, cell_bytes));
    let posts: usize = try_join_all(written).await?.into_iter().sum();
    let took = start.elapsed().as_secs_f64();
    let used = usage::machine_seconds().zip(busy).map_or(1.0, |(now, then)| (now - then) / took);
    sqlx::raw_sql("DROP TABLE floor_spent, floor_blocks").execute(&mut db).await?;
    db.close().await?;
    Ok((posts as f64 / took, used))
}

/// Writes until the time is over; gives how many posts.
async fn write(
    mut db: PgConnection,
    start: Instant,
    batch: usize,
    cell_bytes: usize,
) -> Result<usize, sqlx::Error> {
    let block = (BLOCK_BYTES / (8 + cell_bytes)).max(1);
    let blocks: Vec<usize> =
        (0..batch).step_by(block).map(|skipped| block.min(batch - skipped)).collect();
    let cells: Vec<Vec<u8>> = blocks.iter().map(|n| vec![7; n * cell_bytes]).collect();
    let messages: Vec<i32> = blocks.iter().map(|n| *n as i32).collect();
    let mut posts = 0;
    while start.elapsed() < WRITING {
        let mut nonces = vec![[0; 32]; batch];
        nonces.iter_mut().for_each(|bytes| UnwrapErr(SysRng).fill_bytes(bytes));
        nonces.sort_unstable();
        sqlx::query(
            "WITH spent AS (
                 INSERT INTO floor_spent (epoch, nonce, seq, received_at, message_id)
                 SELECT 0, nonce, 1, 1, nonce FROM unnest($1::bytea[]) AS nonce
                 ON CONFLICT DO NOTHING)
             INSERT INTO floor_blocks (messages, received_at, cells)
             SELECT n, 1, c FROM unnest($2::integer[], $3::bytea[]) AS b (n, c)",
        )
        .bind(nonces)
        .bind(&messages)
        .bind(&cells)
        .execute(&mut db)
        .await?;
        posts += batch;
    }
    Ok(posts)
}
