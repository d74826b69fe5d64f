//! Messages in blocks: how they are written, read and deleted.

use std::ops::RangeInclusive;

use bytes::{BufMut, Bytes, BytesMut};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Connection, Row, SqliteConnection};

use super::super::page::{Block, block_messages};
use super::Message;
use super::writer::Writer;

/// Messages that one transaction of [`trim`] deletes, so that posts get their turn.
const TRIM_MESSAGES: i64 = 1000;

/// Stores messages from the sequence `first` on, and moves the log's head. Gives the blocks that they are in.
pub(super) async fn append(
    tx: &mut SqliteConnection,
    messages: &[&Message],
    first: u64,
    received_at: u64,
    frame_bytes: usize,
) -> Result<Vec<Block>, sqlx::Error> {
    let mut blocks = Vec::new();
    let mut next = first;
    for run in messages.chunks(block_messages(frame_bytes)) {
        let mut frames = BytesMut::with_capacity(run.len() * frame_bytes);
        for (seq, message) in (next..).zip(run) {
            frames.put_u64(seq);
            frames.put_slice(&message.cell);
        }
        let block = Block { first: next, frames: frames.freeze() };
        sqlx::query(
            "INSERT INTO blocks (first_seq, messages, received_at, frames)
             VALUES ($1, $2, $3, $4);
             UPDATE log SET head = $1 + $2 - 1 WHERE id = 1",
        )
        .bind(block.first as i64)
        .bind(run.len() as i64)
        .bind(received_at as i64)
        .bind(&block.frames[..])
        .execute(&mut *tx)
        .await?;
        next += run.len() as u64;
        blocks.push(block);
    }
    Ok(blocks)
}

/// The blocks from the one that has the message after `after` on: as many as have `most`
/// messages together beyond `after`, but one at least. If that message is deleted, from the
/// oldest block on.
pub(super) async fn after(
    readers: &SqlitePool,
    after: u64,
    most: u64,
) -> Result<Vec<Block>, sqlx::Error> {
    let Ok(after) = i64::try_from(after) else { return Ok(Vec::new()) };
    let rows = sqlx::query(
        "WITH page (start) AS (SELECT coalesce(
             (SELECT max(first_seq) FROM blocks WHERE first_seq <= ?1 + 1),
             (SELECT min(first_seq) FROM blocks)))
         SELECT first_seq, frames FROM page, blocks
         WHERE first_seq >= start AND first_seq <= max(start, ?1 + ?2)
             AND first_seq + messages > ?1 + 1
             AND (first_seq = start OR first_seq + messages <= ?1 + 1 + ?2)
         ORDER BY first_seq",
    )
    .bind(after)
    .bind(most as i64)
    .fetch_all(readers)
    .await?;
    rows.into_iter()
        .map(|row| {
            let first = row.try_get::<i64, _>("first_seq")? as u64;
            row.try_get::<&[u8], _>("frames")?;
            Ok(Block { first, frames: Bytes::from_owner(Frames(row)) })
        })
        .collect()
}

/// The row that came from the database, so that its bytes need no copy.
struct Frames(SqliteRow);

impl AsRef<[u8]> for Frames {
    fn as_ref(&self) -> &[u8] {
        self.0.get("frames")
    }
}

/// The first sequence that stays if all before `keep_from` may go, and by age all up to the last old
/// message before the first young one.
pub(super) async fn keep_from(
    readers: &SqlitePool,
    keep_from: u64,
    young: RangeInclusive<u64>,
) -> Result<u64, sqlx::Error> {
    let young_from = sqlx::query_scalar::<_, i64>(
        "SELECT coalesce((SELECT min(first) FROM (
             SELECT (SELECT first_seq FROM blocks WHERE received_at BETWEEN ?1 AND ?2
                 ORDER BY first_seq LIMIT 1) AS first
             UNION ALL SELECT (SELECT bundle * 256 + 1 FROM bundles WHERE received_at BETWEEN ?1 AND ?2
                 ORDER BY bundle LIMIT 1))), head + 1)
         FROM log",
    );
    let signed = |number: u64| number.min(i64::MAX as u64) as i64;
    let (from, until) = (signed(*young.start()), signed(*young.end()));
    let young_from = young_from.bind(from).bind(until).fetch_one(readers).await?;
    let old_until = sqlx::query_scalar::<_, i64>(
        "SELECT coalesce(max(next), 0) FROM (
             SELECT (SELECT first_seq + messages FROM blocks WHERE first_seq < ?1 AND received_at < ?2
                 ORDER BY first_seq DESC LIMIT 1) AS next
             UNION ALL SELECT (SELECT bundle * 256 + 257 FROM bundles
                 WHERE bundle * 256 + 1 < ?1 AND received_at < ?2 ORDER BY bundle DESC LIMIT 1))",
    );
    let old_until = old_until.bind(young_from).bind(from).fetch_one(readers).await?;
    Ok(signed(keep_from).max(old_until.min(young_from)) as u64)
}

/// Deletes the blocks and the sealed bundles that end before the sequence `keep_from`, from the
/// front: what stays is dense after each transaction.
pub(super) async fn trim(writer: &Writer, keep_from: u64) -> Result<(), sqlx::Error> {
    loop {
        let mut writer = writer.turn().await?;
        let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
        let dropped = sqlx::query_scalar::<_, i64>(
            "DELETE FROM bundles WHERE bundle < (?1 - 1) / 256 RETURNING bundle",
        );
        let dropped = dropped.bind(keep_from as i64).fetch_all(&mut *tx).await?;
        // Blocks may lie before the bundles, too.
        let after_dropped = dropped.iter().max().map_or(0, |last| last * 256 + 257);
        if !dropped.is_empty() {
            sqlx::query("UPDATE dropped SET below = max(below, ?1 / 256)")
                .bind(after_dropped)
                .execute(&mut *tx)
                .await?;
        }
        let deleted = sqlx::query(
            "DELETE FROM blocks
             WHERE first_seq < max(?2, (SELECT min(first_seq) FROM blocks) + ?3)
                 AND first_seq + messages <= ?1",
        )
        .bind(keep_from as i64)
        .bind(after_dropped)
        .bind(TRIM_MESSAGES)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        if dropped.is_empty() && deleted.rows_affected() == 0 {
            return Ok(());
        }
    }
}
