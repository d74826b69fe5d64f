//! The tree in SQLite.

use sqlx::{Connection, Row, SqliteConnection};
use tocyn_protocol::log::tile::encode_hashes;
use tocyn_protocol::log::tree::NodeHash;

use super::{Message, SqliteStore, StoreError};
use crate::store::tree::{FullTile, LEAVES, Leaves, full_tile};

/// Adds the leaves of messages from the sequence `first` on.
pub(super) async fn append(
    tx: &mut SqliteConnection,
    messages: &[&Message],
    first: u64,
) -> Result<(), sqlx::Error> {
    if messages.is_empty() {
        return Ok(());
    }
    let hashes: Vec<u8> = messages.iter().flat_map(|message| *message.id.as_bytes()).collect();
    insert(tx, first, &hashes).await
}

async fn insert(tx: &mut SqliteConnection, first: u64, hashes: &[u8]) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO leaves (first_seq, hashes) VALUES (?1, ?2)")
        .bind(first as i64)
        .bind(hashes)
        .execute(tx)
        .await?;
    Ok(())
}

impl SqliteStore {
    pub(in crate::store) async fn leaves_after(
        &self,
        after: u64,
    ) -> Result<Vec<Leaves>, StoreError> {
        let rows = sqlx::query(
            "SELECT first_seq, hashes FROM leaves
             WHERE first_seq + length(hashes) / 32 > ?1 + 1 AND first_seq <= ?1 + ?2
             ORDER BY first_seq",
        )
        .bind(after as i64)
        .bind(LEAVES as i64)
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| Leaves::of_row(row.try_get("first_seq")?, row.try_get("hashes")?))
            .collect()
    }

    pub(in crate::store) async fn tiled(&self) -> Result<u64, StoreError> {
        let tiles = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM tiles WHERE level = 0");
        Ok(tiles.fetch_one(&self.readers).await? as u64)
    }

    pub(in crate::store) async fn tile(
        &self,
        level: u8,
        index: u64,
    ) -> Result<Option<Vec<NodeHash>>, StoreError> {
        let tile = sqlx::query_scalar("SELECT hashes FROM tiles WHERE level = ?1 AND tile = ?2")
            .bind(i64::from(level))
            .bind(index as i64);
        let hashes: Option<Vec<u8>> = tile.fetch_optional(&self.readers).await?;
        hashes.map(|hashes| full_tile(&hashes)).transpose()
    }

    pub(in crate::store) async fn put_tiles(
        &self,
        tiles: &[FullTile],
        tiled: u64,
    ) -> Result<(), StoreError> {
        let mut writer = self.writer.turn().await?;
        let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
        for tile in tiles {
            sqlx::query("INSERT OR IGNORE INTO tiles (level, tile, hashes) VALUES (?1, ?2, ?3)")
                .bind(i64::from(tile.level))
                .bind(tile.index as i64)
                .bind(encode_hashes(&tile.hashes))
                .execute(&mut *tx)
                .await?;
        }
        sqlx::query("DELETE FROM leaves WHERE first_seq + length(hashes) / 32 <= ?1 + 1")
            .bind(tiled as i64)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    pub(in crate::store) async fn put_old_leaves(&self, leaves: &Leaves) -> Result<(), StoreError> {
        let mut writer = self.writer.turn().await?;
        Ok(insert(&mut writer, leaves.first_seq, &leaves.to_bytes()).await?)
    }

    pub(in crate::store) async fn key(&self) -> Result<Option<String>, StoreError> {
        let bound = sqlx::query_scalar("SELECT verifier_key FROM log");
        Ok(bound.fetch_one(&self.readers).await?)
    }
}
