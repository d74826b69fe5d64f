//! The store with many spent tokens: posts a second, bytes a token, and what dropping an epoch
//! costs. `cargo bench -p tocyn-relay --bench spent_set -- --millions 1,10,50`
//!
//! The table is filled directly, a million nonces in key order at a time, so that its pages are
//! as full as random inserts leave them; then real tokens are spent through the store, with its
//! settings and durability, and only that is timed.

#![allow(clippy::print_stdout)]

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tocyn_protocol::issuance::{AmortizedBatchTokenRequest, Issuer};
use tocyn_protocol::log::note::{LogKey, VerifierKey};
use tocyn_protocol::pairing::Pairing;
use tocyn_protocol::redemption::{Authorization, Redeemed, Redeemer};
use tocyn_relay::store::{Message, Store};

const MILLION: u64 = 1_000_000;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
struct Args {
    /// Spent tokens, in millions: each size is measured.
    #[arg(long, value_delimiter = ',', default_value = "1,10,50")]
    millions: Vec<u64>,
    /// Posts in one transaction: each number is measured.
    #[arg(long, value_delimiter = ',', default_value = "64,512")]
    batch: Vec<usize>,
    /// Posts that are timed at each size and number.
    #[arg(long, default_value_t = 40_000)]
    posts: usize,
    /// Bytes of a cell. With 64 nearly all that is written is the spent set.
    #[arg(long, default_value_t = 2048)]
    cell_bytes: usize,
    /// Folder for the database; the disk counts.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
    /// Only fill this database, of a stopped relay in its first epoch, to the first of --millions.
    #[arg(long, value_name = "FILE")]
    fill_only: Option<PathBuf>,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let args = Args::parse();
    if let Some(path) = &args.fill_only {
        return fill(path, 0, args.millions[0] * MILLION).await;
    }
    let dir = tempfile::tempdir_in(&args.folder)?;
    let path = dir.path().join("relay.sqlite");
    let pairing = Pairing::generate("issuer", "relay", 0, 1000, &mut UnwrapErr(SysRng))?;
    let key = LogKey::generate("relay", &mut UnwrapErr(SysRng)).verifier();
    let mut filled = 0;
    println!("cells of {} bytes; {} posts timed for each figure", args.cell_bytes, args.posts);
    println!(
        "{:>12} {:>8} {:>14} {:>16} {:>14}",
        "spent", "batch", "posts/s", "slowest, ms", "bytes a token"
    );
    Store::open(&path.as_path().into(), &pairing, &key, args.cell_bytes).await?.close().await;
    for millions in &args.millions {
        fill(&path, filled, millions * MILLION).await?;
        filled = filled.max(millions * MILLION);
        let bytes = std::fs::metadata(&path)?.len() as f64 / filled as f64;
        for batch in &args.batch {
            let store =
                Store::open(&path.as_path().into(), &pairing, &key, args.cell_bytes).await?;
            let posts = redeemed(&pairing, 0, args.posts, args.cell_bytes);
            let checkpoints = tokio::spawn(checkpoint(store.clone()));
            spend(&store, &posts[..posts.len() / 4], *batch).await?; // warms the caches up
            let (took, slowest) = spend(&store, &posts[posts.len() / 4..], *batch).await?;
            let rate = (posts.len() - posts.len() / 4) as f64 / took.as_secs_f64();
            println!(
                "{filled:>12} {batch:>8} {rate:>14.0} {:>16.1} {bytes:>14.1}",
                slowest.as_secs_f64() * 1e3
            );
            checkpoints.abort();
            store.close().await;
        }
    }
    drop_epoch(&path, &pairing, &key, &args).await
}

/// Spends all, and gives the time of all and of the slowest transaction.
async fn spend(
    store: &Store,
    posts: &[(Redeemed, Message)],
    batch: usize,
) -> Outcome<(Duration, Duration)> {
    let (start, mut slowest) = (Instant::now(), Duration::ZERO);
    for posts in posts.chunks(batch) {
        let begun = Instant::now();
        let outcomes = store.spend_and_append(posts, 1).await?;
        slowest = slowest.max(begun.elapsed());
        assert!(outcomes.iter().all(|outcome| outcome.stored_seq().is_some()));
    }
    Ok((start.elapsed(), slowest))
}

/// As `serve` does it.
async fn checkpoint(store: Store) {
    store.work_forever(Default::default()).await;
}

/// Closes the epoch that was filled while tokens of the next are spent all the time.
async fn drop_epoch(path: &Path, pairing: &Pairing, key: &VerifierKey, args: &Args) -> Outcome {
    let store = Store::open(&path.into(), pairing, key, args.cell_bytes).await?;
    let posts = redeemed(pairing, 1, args.posts, args.cell_bytes);
    let checkpoints = tokio::spawn(checkpoint(store.clone()));
    spend(&store, &posts[..16], 16).await?;
    let (begun, dropped) = (Instant::now(), Cell::new(None));
    let dropping = async {
        store.close_epochs_below(1).await?;
        dropped.set(Some(begun.elapsed()));
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    let spending = async {
        let (mut slowest, mut posts) = (Duration::ZERO, posts[16..].chunks(16));
        while dropped.get().is_none()
            && let Some(posts) = posts.next()
        {
            slowest = slowest.max(spend(&store, posts, 16).await?.1);
        }
        Ok(slowest)
    };
    let ((), slowest) = tokio::try_join!(dropping, spending)?;
    println!(
        "dropping the epoch: {:.2} s; the slowest 16 posts meanwhile took {:.1} ms",
        dropped.get().unwrap_or_default().as_secs_f64(),
        slowest.as_secs_f64() * 1e3
    );
    checkpoints.abort();
    store.close().await;
    Ok(())
}

/// Adds random nonces to epoch 0 until there are `to` of them, without waiting for the disk. Takes
/// as much memory as the table has bytes, up to 8 GB.
async fn fill(path: &Path, from: u64, to: u64) -> Outcome {
    let mut db = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Off)
        .synchronous(SqliteSynchronous::Off)
        .pragma("cache_size", "-8000000")
        .connect()
        .await?;
    let mut tx = db.begin().await?;
    sqlx::query("UPDATE spent_slots SET epoch = 0 WHERE slot = 0").execute(&mut *tx).await?;
    for filled in (from..to).step_by(MILLION as usize) {
        let mut bytes = vec![0; 32 * MILLION as usize];
        UnwrapErr(SysRng).fill_bytes(&mut bytes);
        let (nonces, _) = bytes.as_chunks_mut::<32>();
        nonces.sort_unstable();
        let mut seq = filled as i64;
        for nonces in nonces.chunk_by(|a, b| a[0] >> 4 == b[0] >> 4) {
            for nonces in nonces.chunks(10_000) {
                let table = format!("spent_0_{:x}", nonces[0][0] >> 4);
                let insert = format!(
                    "WITH RECURSIVE row (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM row WHERE i + 1 < ?3)
                     INSERT INTO {table} (nonce, seq, received_at, message_id)
                     SELECT substr(?1, 32 * i + 1, 32), ?2 + i, 1790000000, randomblob(32) FROM row"
                );
                sqlx::query(AssertSqlSafe(insert))
                    .bind(nonces.as_flattened())
                    .bind(seq + 1)
                    .bind(nonces.len() as i64)
                    .execute(&mut *tx)
                    .await?;
                seq += nonces.len() as i64;
            }
        }
    }
    tx.commit().await?;
    Ok(db.close().await?)
}

/// Genuine tokens, each for a message of its own, as the pipeline hands them to the store.
fn redeemed(
    pairing: &Pairing,
    epoch: u64,
    count: usize,
    cell_bytes: usize,
) -> Vec<(Redeemed, Message)> {
    let rng = &mut UnwrapErr(SysRng);
    let (public, challenge) = (*pairing.key_pair(epoch).public(), pairing.challenge());
    let issuer = Issuer::new(pairing.key_pair(epoch));
    let redeemer = Redeemer::new(pairing, &[epoch]);
    let mut posts = Vec::with_capacity(count);
    while posts.len() < count {
        let size = (count - posts.len()).min(256);
        let (request, pending) =
            AmortizedBatchTokenRequest::new(&public, &challenge, size, rng).expect("a good count");
        let answer = issuer.evaluate_batch(&request, rng);
        let tokens = pending.finalize(&answer).expect("it is genuine");
        let messages: Vec<_> = tokens
            .iter()
            .map(|_| {
                let mut cell = vec![0; cell_bytes];
                rng.fill_bytes(&mut cell);
                Message::new(Bytes::from(cell))
            })
            .collect();
        let tokens: Vec<_> = tokens.into_iter().map(Authorization::Bearer).collect();
        let batch: Vec<_> = tokens.iter().zip(&messages).map(|(t, m)| (t, m.id())).collect();
        let redeemed = redeemer.redeem_batch(&batch).into_iter().map(|r| r.expect("genuine"));
        posts.extend(redeemed.zip(messages));
    }
    posts
}
