//! The whole log, to be moved elsewhere.

use bytes::Bytes;
use sqlx::{AssertSqlSafe, Connection, Row};
use tocyn_protocol::pairing::Epoch;

use super::spent::{all_of_slot, array};
use super::{Nonce, SqliteStore, StoreError};
use crate::store::bundles::BundleRow;
use crate::store::copy::{Facts, Source, SpentRow, TimedBlock};
use crate::store::page::Block;
use crate::store::tree::{FullTile, Leaves, full_tile};

/// Blocks, and spent tokens, in one piece.
const BLOCKS: i64 = 16;
const SPENT: i64 = 10_000;
const TILES: i64 = 256;
const BUNDLES: i64 = 10_000;

impl Source for SqliteStore {
    async fn facts(&mut self) -> Result<Facts, StoreError> {
        let facts = sqlx::query(
            "SELECT head, cell_bytes, closed_below, pairing_id, verifier_key,
                 (SELECT below FROM dropped) AS dropped_below,
                 (SELECT settled_at FROM settled) AS settled_at
             FROM log",
        );
        let row = facts.fetch_one(&self.readers).await?;
        let retired = "SELECT pairing_id FROM retired_pairings ORDER BY pairing_id";
        let statements = "SELECT serial, note, since, leaves FROM statements ORDER BY serial";
        Ok(Facts {
            statements: sqlx::query_as(statements).fetch_all(&self.readers).await?,
            head: row.try_get("head")?,
            cell_bytes: row.try_get("cell_bytes")?,
            closed_below: row.try_get("closed_below")?,
            pairing_id: row.try_get("pairing_id")?,
            verifier_key: row.try_get("verifier_key")?,
            dropped_below: row.try_get("dropped_below")?,
            settled_at: row.try_get("settled_at")?,
            retired_pairings: sqlx::query_scalar(retired).fetch_all(&self.readers).await?,
        })
    }

    async fn blocks(&mut self, from: u64) -> Result<Vec<TimedBlock>, StoreError> {
        let rows = sqlx::query(
            "SELECT first_seq, received_at, frames FROM blocks WHERE first_seq >= ?1
             ORDER BY first_seq LIMIT ?2",
        )
        .bind(from as i64)
        .bind(BLOCKS)
        .fetch_all(&self.readers)
        .await?;
        let block = |row: sqlx::sqlite::SqliteRow| {
            let frames = Bytes::from(row.try_get::<Vec<u8>, _>("frames")?);
            let first = row.try_get::<i64, _>("first_seq")? as u64;
            Ok(TimedBlock {
                block: Block { first, frames },
                received_at: row.try_get("received_at")?,
            })
        };
        rows.into_iter().map(block).collect()
    }

    async fn bundles(&mut self, from: u64) -> Result<Vec<BundleRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT bundle, received_at FROM bundles WHERE bundle >= ?1 ORDER BY bundle LIMIT ?2",
        );
        let rows = rows.bind(from as i64).bind(BUNDLES).fetch_all(&self.readers).await?;
        rows.iter()
            .map(|row| {
                let (bundle, received_at) = (row.try_get("bundle")?, row.try_get("received_at")?);
                Ok(BundleRow { bundle, received_at })
            })
            .collect()
    }

    async fn tiles(&mut self, level: u8, from: u64) -> Result<Vec<FullTile>, StoreError> {
        let rows = sqlx::query(
            "SELECT tile, hashes FROM tiles WHERE level = ?1 AND tile >= ?2 ORDER BY tile LIMIT ?3",
        )
        .bind(i64::from(level))
        .bind(from as i64)
        .bind(TILES)
        .fetch_all(&self.readers)
        .await?;
        let tile = |row: sqlx::sqlite::SqliteRow| {
            let index = row.try_get::<i64, _>("tile")? as u64;
            Ok(FullTile { level, index, hashes: full_tile(row.try_get("hashes")?)? })
        };
        rows.into_iter().map(tile).collect()
    }

    async fn leaves(&mut self, from: u64) -> Result<Vec<Leaves>, StoreError> {
        let leaves = "SELECT first_seq, hashes FROM leaves WHERE first_seq >= ?1
             ORDER BY first_seq LIMIT ?2";
        let leaves = sqlx::query(leaves).bind(from as i64).bind(TILES);
        let rows = leaves.fetch_all(&self.readers).await?;
        rows.iter()
            .map(|row| Leaves::of_row(row.try_get("first_seq")?, row.try_get("hashes")?))
            .collect()
    }

    async fn epochs(&mut self) -> Result<Vec<Epoch>, StoreError> {
        let held = "SELECT epoch FROM spent_slots, log WHERE epoch >= closed_below ORDER BY epoch";
        let held: Vec<i64> = sqlx::query_scalar(held).fetch_all(&self.readers).await?;
        Ok(held.into_iter().map(|epoch| epoch as u64).collect())
    }

    async fn spent(
        &mut self,
        epoch: Epoch,
        after: Option<Nonce>,
    ) -> Result<Vec<SpentRow>, StoreError> {
        let slot = sqlx::query_scalar("SELECT slot FROM spent_slots WHERE epoch = ?1");
        let slot: Option<i64> = slot.bind(epoch as i64).fetch_optional(&self.readers).await?;
        let Some(slot) = slot else { return Ok(Vec::new()) };
        let query = format!(
            "SELECT nonce, seq, received_at, message_id FROM {} WHERE nonce > ?1
             ORDER BY nonce LIMIT ?2",
            all_of_slot(slot as usize)
        );
        let after = after.map(|nonce| nonce.to_vec()).unwrap_or_default();
        let query = sqlx::query(AssertSqlSafe(query)).bind(after).bind(SPENT);
        let rows = query.fetch_all(&self.readers).await?;
        let row = |row: sqlx::sqlite::SqliteRow| {
            Ok(SpentRow {
                nonce: array(&row, "nonce")?,
                seq: row.try_get("seq")?,
                received_at: row.try_get("received_at")?,
                message_id: array(&row, "message_id")?,
            })
        };
        rows.into_iter().map(row).collect()
    }
}

impl SqliteStore {
    /// From now on no relay serves this file.
    pub(in crate::store) async fn mark_moved(
        &self,
        target: &str,
        now: u64,
    ) -> Result<(), StoreError> {
        let mut writer = self.writer.turn().await?;
        let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("DELETE FROM moved").execute(&mut *tx).await?;
        sqlx::query("INSERT INTO moved (moved_at, target) VALUES (?1, ?2)")
            .bind(now as i64)
            .bind(target)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Where it was moved, or is being moved: what the mark says.
    pub(in crate::store) async fn moved_to(&self) -> Result<Option<String>, StoreError> {
        Ok(sqlx::query_scalar("SELECT target FROM moved").fetch_optional(&self.readers).await?)
    }
}
