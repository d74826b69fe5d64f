//! Reading and deleting messages.

use std::ops::RangeInclusive;

use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{Connection, FromRow, Postgres, Row};

use super::bundles::LOCK_BUNDLES;
use super::epochs::BEGIN;
use super::{LogRange, LogRow, PostgresStore, ReadPage, StoreError, in_time, unsigned};
use crate::store::page::{Block, SEQUENCE_BYTES, block_messages};
use crate::store::settled::{SETTLE, SETTLED};

/// Messages that one transaction of [`PostgresStore::trim`] deletes, or those of one block.
const TRIM_MESSAGES: i64 = 10_000;

impl PostgresStore {
    /// Fails where the log ends before what was seen of it: what is in memory is of another one.
    pub(crate) async fn range(&self) -> Result<LogRange, StoreError> {
        let seen = self.seen_head();
        let query = self.log_row();
        let row = self.ask(async |db| query.fetch_one(db).await).await?;
        let head = self.read_head(LogRow::from_row(&row)?, seen).await?;
        Ok(LogRange { oldest: unsigned(row.try_get("oldest")?), head })
    }

    /// For [`LogRow`], with `pairing_id` and `oldest`.
    pub(super) fn log_row(&self) -> Query<'_, Postgres, PgArguments> {
        let query = sqlx::query(
            "SELECT head, keys_serial, pairing_id, pg_is_in_recovery() AS standby,
                 went_back OR coalesce(pairing_id = $4 AND $1 >= closed_below AND NOT EXISTS (
                     SELECT FROM spent WHERE epoch = $1 AND nonce = $2 AND seq = $3
                 ), false) AS went_back,
                 greatest(coalesce(least((SELECT min(first_seq) FROM blocks),
                     (SELECT min(bundle) * 256 + 1 FROM bundles)), head + 1),
                     (SELECT below * 256 + 1 FROM dropped)) AS oldest
             FROM log",
        );
        let last = self.last_spent();
        query
            .bind(last.map(|last| last.epoch as i64))
            .bind(last.map(|last| last.nonce))
            .bind(last.map(|last| last.seq as i64))
            .bind(self.0.pairing_id)
    }

    pub(crate) async fn ready(&self) -> Result<(), StoreError> {
        self.range().await?;
        let query = sqlx::query_scalar(
            "SELECT pairing_id = $1 AND coalesce(keys_root = $2, true) FROM log",
        );
        let query = query.bind(self.0.pairing_id).bind(self.0.keys_root.get().copied());
        let is_ours: bool = self.ask(async |db| query.fetch_one(db).await).await?;
        match is_ours {
            true => Ok(()),
            false => Err(StoreError::PairingReplaced),
        }
    }

    pub(crate) async fn read_after(
        &self,
        after: u64,
        limit: u64,
    ) -> Result<Option<ReadPage>, StoreError> {
        self.check_went_back()?;
        let frame_bytes = SEQUENCE_BYTES + self.0.cell_bytes;
        let most = block_messages(frame_bytes) as u64;
        let tail = &self.0.tail;
        let page = |blocks: &[Block]| Ok(ReadPage::cut(blocks, after, limit, frame_bytes));
        if let Some(blocks) = tail.after(after, most) {
            return page(&blocks);
        }
        // Of those who wait at the end of the tail, one asks and the others get what it got.
        let _filling = match tail.ends_at(after) {
            true => Some(self.0.filling.lock().await),
            false => None,
        };
        if let Some(blocks) = tail.after(after, most) {
            return page(&blocks);
        }
        let blocks = self.blocks_after(after, most).await?;
        if blocks.last().is_some_and(|last| last.end(frame_bytes) > self.seen_head()) {
            tail.push(&blocks);
        }
        page(&blocks)
    }

    /// The blocks from the one that has the message after `after` on: as many as have `most`
    /// messages together beyond `after`, but one at least. If that message is deleted, from the
    /// oldest block on.
    async fn blocks_after(&self, after: u64, most: u64) -> Result<Vec<Block>, StoreError> {
        let end = after.checked_add(most + 1).map(i64::try_from);
        let Some(Ok(_)) = end else { return Ok(Vec::new()) };
        let query = sqlx::query(
            "WITH page (start) AS (SELECT coalesce(
                 (SELECT max(first_seq) FROM blocks WHERE first_seq <= $1 + 1),
                 (SELECT min(first_seq) FROM blocks)))
             SELECT first_seq, cells FROM blocks
             WHERE first_seq >= (SELECT start FROM page)
                 AND first_seq <= (SELECT greatest(start, $1 + $2) FROM page)
                 AND first_seq + messages > $1 + 1
                 AND (first_seq = (SELECT start FROM page) OR first_seq + messages <= $1 + 1 + $2)
             ORDER BY first_seq",
        );
        let query = query.bind(after as i64).bind(most as i64);
        let rows = self.ask(async |db| query.fetch_all(db).await).await?;
        let block = |row: &PgRow| {
            let cells: &[u8] = row.try_get("cells")?;
            Ok(Block::of_cells(unsigned(row.try_get("first_seq")?), cells, self.0.cell_bytes))
        };
        rows.iter().map(block).collect()
    }

    pub(crate) async fn settled_at(&self) -> Result<Option<i64>, StoreError> {
        let settled = sqlx::query_scalar(SETTLED);
        Ok(self.ask(async |db| settled.fetch_optional(db).await).await?)
    }

    pub(crate) async fn note_settled(&self, at: i64) -> Result<(), StoreError> {
        in_time(async {
            let mut connection = self.connect().await?;
            let mut tx = connection.begin_with(BEGIN).await?;
            sqlx::query(SETTLE).bind(at).execute(&mut *tx).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    pub(crate) async fn trim(
        &self,
        keep_from: u64,
        young: RangeInclusive<u64>,
    ) -> Result<(), StoreError> {
        let clamp = |value: u64| value.min(i64::MAX as u64) as i64;
        let query = sqlx::query_scalar(
            "WITH young AS (SELECT coalesce(least(
                 (SELECT first_seq FROM blocks WHERE received_at BETWEEN $2 AND $3
                  ORDER BY first_seq LIMIT 1),
                 (SELECT bundle * 256 + 1 FROM bundles WHERE received_at BETWEEN $2 AND $3
                  ORDER BY bundle LIMIT 1)),
                 head + 1) AS first FROM log)
             SELECT greatest($1, least(first, greatest(
                 (SELECT first_seq + messages FROM blocks WHERE first_seq < first AND received_at < $2
                  ORDER BY first_seq DESC LIMIT 1),
                 (SELECT bundle * 256 + 257 FROM bundles WHERE bundle * 256 + 1 < first
                  AND received_at < $2 ORDER BY bundle DESC LIMIT 1), 0)))
             FROM young",
        );
        let query = query.bind(clamp(keep_from)).bind(clamp(*young.start()));
        let query = query.bind(clamp(*young.end()));
        let mut connection = in_time(self.connect()).await?;
        let keep_from: i64 = in_time(query.fetch_one(&mut connection)).await?;
        self.0.tail.trim(unsigned(keep_from));
        while in_time(trim_a_little(&mut connection, keep_from)).await? {}
        Ok(())
    }
}

/// Deletes some of the blocks, and all sealed bundles, that end before the sequence `keep_from`, from
/// the front: what stays is dense. Says whether there were any.
async fn trim_a_little(connection: &mut PgConnection, keep_from: i64) -> Result<bool, sqlx::Error> {
    let mut tx = connection.begin_with(BEGIN).await?;
    sqlx::raw_sql(LOCK_BUNDLES).execute(&mut *tx).await?;
    let dropped =
        sqlx::query_scalar("DELETE FROM bundles WHERE bundle < ($1 - 1) / 256 RETURNING bundle");
    let dropped: Vec<i64> = dropped.bind(keep_from).fetch_all(&mut *tx).await?;
    // Blocks may lie before the bundles, too.
    let after_dropped = dropped.iter().max().map_or(0, |last| last * 256 + 257);
    if !dropped.is_empty() {
        sqlx::query("UPDATE dropped SET below = greatest(below, $1 / 256)")
            .bind(after_dropped)
            .execute(&mut *tx)
            .await?;
    }
    let deleted = sqlx::query(
        "DELETE FROM blocks
         WHERE first_seq < greatest($2, (SELECT min(first_seq) FROM blocks) + $3)
             AND first_seq + messages <= $1",
    );
    let deleted = deleted.bind(keep_from).bind(after_dropped).bind(TRIM_MESSAGES);
    let deleted = deleted.execute(&mut *tx).await?.rows_affected();
    tx.commit().await?;
    Ok(!dropped.is_empty() || deleted > 0)
}
