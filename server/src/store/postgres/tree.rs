//! The tree in PostgreSQL. Any relay may put tiles away: what is in them follows from the log.

use std::collections::HashMap;

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};
use tocyn_protocol::log::tile::{TILE_WIDTH, encode_hashes, node_above};
use tocyn_protocol::log::tree::NodeHash;

use super::epochs::BEGIN;
use super::{PostgresStore, StoreError, in_time, unsigned};
use crate::store::tree::{FullTile, LEAVES, Leaves, full_tile};

/// Holds tiles that have just come into the table against what they are made of. The process that
/// puts them may remember a log that is no more, and the one that took its place may have
/// grown past it by now.
async fn check_new(tx: &mut PgConnection, tiles: &[&FullTile]) -> Result<(), StoreError> {
    let mut lowest = tiles.iter().filter(|tile| tile.level == 0).map(|tile| tile.index);
    if let Some(first) = lowest.next() {
        let (first, last) =
            (first * TILE_WIDTH + 1, (lowest.next_back().unwrap_or(first) + 1) * TILE_WIDTH);
        let rows = sqlx::query(
            "SELECT first_seq, hashes FROM leaves
             WHERE first_seq + length(hashes) / 32 > $1 AND first_seq <= $2 ORDER BY first_seq",
        );
        let rows = rows.bind(first as i64).bind(last as i64).fetch_all(&mut *tx).await?;
        let mut leaves = HashMap::new();
        for row in &rows {
            let row = Leaves::of_row(row.try_get("first_seq")?, row.try_get("hashes")?)?;
            leaves.extend((row.first_seq..).zip(row.hashes));
        }
        for tile in tiles.iter().filter(|tile| tile.level == 0) {
            let mut stored = (tile.index * TILE_WIDTH + 1..).map(|seq| leaves.get(&seq));
            if !tile.hashes.iter().all(|hash| stored.next() == Some(Some(hash))) {
                return Err(StoreError::Tree);
            }
        }
    }
    for tile in tiles.iter().filter(|tile| tile.level > 0) {
        let below = sqlx::query_scalar(
            "SELECT hashes FROM tiles WHERE level = $1 AND tile >= $2 AND tile < $2 + 256
             ORDER BY tile",
        );
        let below = below.bind(i16::from(tile.level - 1)).bind((tile.index * TILE_WIDTH) as i64);
        let below: Vec<Vec<u8>> = below.fetch_all(&mut *tx).await?;
        let above = below.iter().map(|hashes| Ok(node_above(&full_tile(hashes)?)));
        if above.collect::<Result<Vec<_>, StoreError>>()? != tile.hashes {
            return Err(StoreError::Tree);
        }
    }
    Ok(())
}

impl PostgresStore {
    pub(in crate::store) async fn leaves_after(
        &self,
        after: u64,
    ) -> Result<Vec<Leaves>, StoreError> {
        let query = sqlx::query(
            "SELECT first_seq, hashes FROM leaves
             WHERE first_seq + length(hashes) / 32 > $1 + 1 AND first_seq <= $1 + $2
             ORDER BY first_seq",
        );
        let query = query.bind(after as i64).bind(LEAVES as i64);
        let rows = self.ask_for_log(async |db| query.fetch_all(db).await).await?;
        rows.iter()
            .map(|row| Leaves::of_row(row.try_get("first_seq")?, row.try_get("hashes")?))
            .collect()
    }

    pub(in crate::store) async fn tiled(&self) -> Result<u64, StoreError> {
        let mut connection = in_time(self.connect()).await?;
        let tiles = sqlx::query_scalar("SELECT count(*) FROM tiles WHERE level = 0");
        Ok(unsigned(in_time(tiles.fetch_one(&mut connection)).await?))
    }

    pub(in crate::store) async fn tile(
        &self,
        level: u8,
        index: u64,
    ) -> Result<Option<Vec<NodeHash>>, StoreError> {
        let tile = sqlx::query_scalar("SELECT hashes FROM tiles WHERE level = $1 AND tile = $2")
            .bind(i16::from(level))
            .bind(index as i64);
        let hashes: Option<Vec<u8>> =
            self.ask_for_log(async |db| tile.fetch_optional(db).await).await?;
        hashes.map(|hashes| full_tile(&hashes)).transpose()
    }

    pub(in crate::store) async fn put_tiles(
        &self,
        tiles: &[FullTile],
        tiled: u64,
    ) -> Result<(), StoreError> {
        in_time(async {
            let mut connection = self.connect().await?;
            let mut tx = connection.begin_with(BEGIN).await?;
            // The log of this process's memory may be one that is no more.
            let good = "SELECT EXISTS (SELECT FROM log
                 WHERE pairing_id = $1 AND NOT went_back AND head >= $2)";
            let good = sqlx::query_scalar(good).bind(self.0.pairing_id).bind(tiled as i64);
            if !good.fetch_one(&mut *tx).await? {
                return Err(StoreError::Tree);
            }
            let put = sqlx::query_as::<_, (i16, i64)>(
                "INSERT INTO tiles (level, tile, hashes)
                 SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[]) AS t (l, t, h)
                 ORDER BY 1, 2 ON CONFLICT DO NOTHING RETURNING level, tile",
            )
            .bind(tiles.iter().map(|tile| i16::from(tile.level)).collect::<Vec<_>>())
            .bind(tiles.iter().map(|tile| tile.index as i64).collect::<Vec<_>>())
            .bind(tiles.iter().map(|tile| encode_hashes(&tile.hashes)).collect::<Vec<_>>())
            .fetch_all(&mut *tx)
            .await?;
            let is_new = |tile: &&FullTile| put.contains(&(tile.level.into(), tile.index as i64));
            let new: Vec<_> = tiles.iter().filter(is_new).collect();
            check_new(&mut tx, &new).await?;
            let put =
                "SELECT count(*) FROM tiles JOIN unnest($1::smallint[], $2::bigint[], $3::bytea[])
                 AS t (l, t, h) ON level = l AND tile = t AND hashes = h";
            let put = sqlx::query_scalar(put)
                .bind(tiles.iter().map(|tile| i16::from(tile.level)).collect::<Vec<_>>())
                .bind(tiles.iter().map(|tile| tile.index as i64).collect::<Vec<_>>())
                .bind(tiles.iter().map(|tile| encode_hashes(&tile.hashes)).collect::<Vec<_>>());
            let put: i64 = put.fetch_one(&mut *tx).await?;
            if put != tiles.len() as i64 {
                return Err(StoreError::Tree);
            }
            sqlx::query("DELETE FROM leaves WHERE first_seq + length(hashes) / 32 <= $1 + 1")
                .bind(tiled as i64)
                .execute(&mut *tx)
                .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    pub(in crate::store) async fn put_old_leaves(&self, leaves: &Leaves) -> Result<(), StoreError> {
        let mut connection = in_time(self.connect()).await?;
        let insert =
            "INSERT INTO leaves (first_seq, hashes) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        let insert = sqlx::query(insert).bind(leaves.first_seq as i64).bind(leaves.to_bytes());
        in_time(insert.execute(&mut connection)).await?;
        Ok(())
    }

    pub(in crate::store) async fn key(&self) -> Result<Option<String>, StoreError> {
        let bound = sqlx::query_scalar("SELECT verifier_key FROM log");
        Ok(self.ask(async |db| bound.fetch_one(db).await).await?)
    }
}
