//! Sealed bundles in SQLite.

use std::ops::Range;

use sqlx::{Connection, Row};
use tocyn_protocol::log::tile::{TILE_WIDTH, encode_hashes};

use super::{SqliteStore, StoreError};
use crate::store::FullTile;
use crate::store::bundles::{DELETE_SEALED_BLOCKS, sealed};

impl SqliteStore {
    pub(in crate::store) async fn sealed(&self) -> Result<Range<u64>, StoreError> {
        let row = sqlx::query(
            "SELECT (SELECT min(bundle) FROM bundles) AS first,
                 (SELECT max(bundle) FROM bundles) AS last,
                 coalesce((SELECT min(first_seq) FROM blocks), head + 1) AS oldest,
                 (SELECT below FROM dropped) AS dropped_below
             FROM log",
        )
        .fetch_one(&self.readers)
        .await?;
        let oldest = row.try_get::<i64, _>("oldest")? as u64;
        let dropped_below = row.try_get("dropped_below")?;
        Ok(sealed(row.try_get("first")?, row.try_get("last")?, oldest, dropped_below))
    }

    pub(in crate::store) async fn put_sealed(
        &self,
        bundles: &[FullTile],
    ) -> Result<u64, StoreError> {
        let mut writer = self.writer.turn().await?;
        let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
        let head: i64 = sqlx::query_scalar("SELECT head FROM log").fetch_one(&mut *tx).await?;
        let mut put = 0;
        for tile in bundles {
            let bundle = tile.index as i64;
            if (head as u64) < (tile.index + 1) * TILE_WIDTH {
                return Err(StoreError::WentBack);
            }
            let same = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM tiles WHERE level = 0 AND tile = ?1 AND hashes = ?2)",
            );
            let same = same.bind(bundle).bind(encode_hashes(&tile.hashes));
            if tile.level != 0 || !same.fetch_one(&mut *tx).await? {
                return Err(StoreError::Tree);
            }
            // It follows the last one, and its first message is there, so all of them are.
            let inserted = sqlx::query(
                "INSERT INTO bundles (bundle, received_at)
                 SELECT ?1, max(received_at) FROM blocks
                 WHERE first_seq + messages > ?1 * 256 + 1 AND first_seq <= ?1 * 256 + 256
                     AND first_seq >= (SELECT max(first_seq) FROM blocks WHERE first_seq <= ?1 * 256 + 1)
                 HAVING min(first_seq) <= ?1 * 256 + 1
                     AND coalesce((SELECT max(bundle) FROM bundles), ?1 - 1) = ?1 - 1
                     AND ?1 >= (SELECT below FROM dropped)",
            );
            match inserted.bind(bundle).execute(&mut *tx).await?.rows_affected() {
                0 => break,
                _ => put += 1,
            }
        }
        sqlx::query(DELETE_SEALED_BLOCKS).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(put)
    }
}
