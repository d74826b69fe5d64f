//! An empty database that a log is moved to.

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row};
use tocyn_protocol::log::tile::encode_hashes;
use tocyn_protocol::pairing::Epoch;
use tocyn_protocol::statement::tree::EpochTree;

use super::open::{check_server, connect, migrate, refusal};
use super::{Nonce, StoreError, unsigned};
use crate::store::bundles::BundleRow;
use crate::store::copy::{Facts, Source, SpentRow, StatementRow, TimedBlock, cells};
use crate::store::page::Block;
use crate::store::settled::SETTLE;
use crate::store::tree::{FullTile, Leaves, full_tile};

/// Blocks, and spent tokens, in one piece.
const BLOCKS: i64 = 16;
const SPENT: i64 = 10_000;
const TILES: i64 = 256;
const BUNDLES: i64 = 10_000;

/// A connection to it. What was not committed is gone with it.
pub(in crate::store) struct Target(PgConnection);

impl Target {
    /// Connects, and makes the tables if they are not there.
    pub(in crate::store) async fn open(server: &PgConnectOptions) -> Result<Self, StoreError> {
        let refuse = |reason| refusal(server, reason);
        let mut connection = connect(server).await?;
        check_server(&mut connection).await.map_err(refuse)?;
        migrate(&mut connection).await.map_err(refuse)?;
        Ok(Self(connection))
    }

    /// Whether no log was begun there.
    pub(in crate::store) async fn is_empty(&mut self) -> Result<bool, StoreError> {
        let empty = sqlx::query_scalar("SELECT NOT EXISTS (SELECT FROM log)");
        Ok(empty.fetch_one(&mut self.0).await?)
    }

    pub(in crate::store) async fn begin(&mut self) -> Result<(), StoreError> {
        let begin = "BEGIN; SET LOCAL synchronous_commit = on";
        sqlx::raw_sql(begin).execute(&mut self.0).await?;
        Ok(())
    }

    pub(in crate::store) async fn commit(&mut self) -> Result<(), StoreError> {
        sqlx::raw_sql("COMMIT").execute(&mut self.0).await?;
        Ok(())
    }

    /// A relay that is started there now waits for the commit, and then finds all of it.
    pub(in crate::store) async fn put_facts(&mut self, facts: &Facts) -> Result<(), StoreError> {
        let tree = |row: &StatementRow| EpochTree::from_bytes(&row.leaves).ok_or(StoreError::Tree);
        let newest = facts.statements.last().map(tree).transpose()?;
        sqlx::query(
            "INSERT INTO log (id, head, cell_bytes, pairing_id, closed_below, verifier_key,
                 keys_serial, keys_root)
             VALUES (1, $1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(facts.head)
        .bind(facts.cell_bytes as i32)
        .bind(&facts.pairing_id)
        .bind(facts.closed_below)
        .bind(&facts.verifier_key)
        .bind(facts.statements.len() as i64 - 1)
        .bind(newest.map(|tree| tree.root().0))
        .execute(&mut self.0)
        .await?;
        for row in &facts.statements {
            sqlx::query(
                "INSERT INTO statements (serial, note, since, leaves) VALUES ($1, $2, $3, $4)",
            )
            .bind(row.serial)
            .bind(&row.note)
            .bind(row.since)
            .bind(&row.leaves)
            .execute(&mut self.0)
            .await?;
        }
        sqlx::query("INSERT INTO retired_pairings (pairing_id) SELECT unnest($1::bytea[])")
            .bind(&facts.retired_pairings)
            .execute(&mut self.0)
            .await?;
        sqlx::query("UPDATE dropped SET below = $1")
            .bind(facts.dropped_below)
            .execute(&mut self.0)
            .await?;
        if let Some(at) = facts.settled_at {
            sqlx::query(SETTLE).bind(at).execute(&mut self.0).await?;
        }
        Ok(())
    }

    pub(in crate::store) async fn put_blocks(
        &mut self,
        blocks: &[TimedBlock],
        cell_bytes: usize,
    ) -> Result<(), StoreError> {
        let cells: Vec<_> = blocks.iter().map(|b| cells(&b.block.frames, cell_bytes)).collect();
        let messages = cells.iter().map(|cells| (cells.len() / cell_bytes) as i32);
        sqlx::query(
            "INSERT INTO blocks (first_seq, messages, received_at, cells)
             SELECT * FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::bytea[])",
        )
        .bind(blocks.iter().map(|b| b.block.first as i64).collect::<Vec<_>>())
        .bind(messages.collect::<Vec<_>>())
        .bind(blocks.iter().map(|b| b.received_at).collect::<Vec<_>>())
        .bind(cells)
        .execute(&mut self.0)
        .await?;
        Ok(())
    }

    pub(in crate::store) async fn put_bundles(
        &mut self,
        bundles: &[BundleRow],
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO bundles SELECT * FROM unnest($1::bigint[], $2::bigint[])")
            .bind(bundles.iter().map(|row| row.bundle).collect::<Vec<_>>())
            .bind(bundles.iter().map(|row| row.received_at).collect::<Vec<_>>())
            .execute(&mut self.0)
            .await?;
        Ok(())
    }

    pub(in crate::store) async fn put_tiles(
        &mut self,
        tiles: &[FullTile],
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO tiles (level, tile, hashes)
             SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[])",
        )
        .bind(tiles.iter().map(|tile| i16::from(tile.level)).collect::<Vec<_>>())
        .bind(tiles.iter().map(|tile| tile.index as i64).collect::<Vec<_>>())
        .bind(tiles.iter().map(|tile| encode_hashes(&tile.hashes)).collect::<Vec<_>>())
        .execute(&mut self.0)
        .await?;
        Ok(())
    }

    pub(in crate::store) async fn put_leaves(
        &mut self,
        leaves: &[Leaves],
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO leaves SELECT * FROM unnest($1::bigint[], $2::bytea[])")
            .bind(leaves.iter().map(|leaves| leaves.first_seq as i64).collect::<Vec<_>>())
            .bind(leaves.iter().map(Leaves::to_bytes).collect::<Vec<_>>())
            .execute(&mut self.0)
            .await?;
        Ok(())
    }

    pub(in crate::store) async fn put_epoch(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        let make = format!("CREATE TABLE spent_{epoch} PARTITION OF spent FOR VALUES IN ({epoch})");
        sqlx::raw_sql(AssertSqlSafe(make)).execute(&mut self.0).await?;
        Ok(())
    }

    pub(in crate::store) async fn put_spent(
        &mut self,
        epoch: Epoch,
        rows: &[SpentRow],
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO spent (epoch, nonce, seq, received_at, message_id)
             SELECT $1, * FROM unnest($2::bytea[], $3::bigint[], $4::bigint[], $5::bytea[])",
        )
        .bind(epoch as i64)
        .bind(rows.iter().map(|row| row.nonce).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.seq).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.received_at).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.message_id).collect::<Vec<_>>())
        .execute(&mut self.0)
        .await?;
        Ok(())
    }
}

impl Source for Target {
    async fn facts(&mut self) -> Result<Facts, StoreError> {
        let facts = sqlx::query(
            "SELECT head, cell_bytes, closed_below, pairing_id, verifier_key,
                 (SELECT below FROM dropped) AS dropped_below,
                 (SELECT settled_at FROM settled) AS settled_at
             FROM log",
        );
        let row = facts.fetch_one(&mut self.0).await?;
        let retired = "SELECT pairing_id FROM retired_pairings ORDER BY pairing_id";
        let statements = "SELECT serial, note, since, leaves FROM statements ORDER BY serial";
        Ok(Facts {
            statements: sqlx::query_as(statements).fetch_all(&mut self.0).await?,
            head: row.try_get("head")?,
            cell_bytes: row.try_get::<i32, _>("cell_bytes")?.into(),
            closed_below: row.try_get("closed_below")?,
            pairing_id: row.try_get("pairing_id")?,
            verifier_key: row.try_get("verifier_key")?,
            dropped_below: row.try_get("dropped_below")?,
            settled_at: row.try_get("settled_at")?,
            retired_pairings: sqlx::query_scalar(retired).fetch_all(&mut self.0).await?,
        })
    }

    async fn blocks(&mut self, from: u64) -> Result<Vec<TimedBlock>, StoreError> {
        let rows = sqlx::query(
            "SELECT first_seq, received_at, cells, cell_bytes FROM blocks, log
             WHERE first_seq >= $1 ORDER BY first_seq LIMIT $2",
        )
        .bind(from as i64)
        .bind(BLOCKS)
        .fetch_all(&mut self.0)
        .await?;
        let block = |row: PgRow| {
            let cell_bytes: i32 = row.try_get("cell_bytes")?;
            let cells: &[u8] = row.try_get("cells")?;
            let first = unsigned(row.try_get("first_seq")?);
            let block = Block::of_cells(first, cells, cell_bytes as usize);
            Ok(TimedBlock { block, received_at: row.try_get("received_at")? })
        };
        rows.into_iter().map(block).collect()
    }

    async fn bundles(&mut self, from: u64) -> Result<Vec<BundleRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT bundle, received_at FROM bundles WHERE bundle >= $1 ORDER BY bundle LIMIT $2",
        );
        let rows = rows.bind(from as i64).bind(BUNDLES).fetch_all(&mut self.0).await?;
        rows.iter()
            .map(|row| {
                let (bundle, received_at) = (row.try_get("bundle")?, row.try_get("received_at")?);
                Ok(BundleRow { bundle, received_at })
            })
            .collect()
    }

    async fn tiles(&mut self, level: u8, from: u64) -> Result<Vec<FullTile>, StoreError> {
        let rows = sqlx::query(
            "SELECT tile, hashes FROM tiles WHERE level = $1 AND tile >= $2 ORDER BY tile LIMIT $3",
        )
        .bind(i16::from(level))
        .bind(from as i64)
        .bind(TILES)
        .fetch_all(&mut self.0)
        .await?;
        let tile = |row: PgRow| {
            let index = unsigned(row.try_get("tile")?);
            Ok(FullTile { level, index, hashes: full_tile(row.try_get("hashes")?)? })
        };
        rows.into_iter().map(tile).collect()
    }

    async fn leaves(&mut self, from: u64) -> Result<Vec<Leaves>, StoreError> {
        let leaves = "SELECT first_seq, hashes FROM leaves WHERE first_seq >= $1
             ORDER BY first_seq LIMIT $2";
        let leaves = sqlx::query(leaves).bind(from as i64).bind(TILES);
        let rows = leaves.fetch_all(&mut self.0).await?;
        rows.iter()
            .map(|row| Leaves::of_row(row.try_get("first_seq")?, row.try_get("hashes")?))
            .collect()
    }

    async fn epochs(&mut self) -> Result<Vec<Epoch>, StoreError> {
        let epochs = "SELECT DISTINCT epoch FROM spent, log WHERE epoch >= closed_below ORDER BY 1";
        let epochs: Vec<i64> = sqlx::query_scalar(epochs).fetch_all(&mut self.0).await?;
        Ok(epochs.into_iter().map(unsigned).collect())
    }

    async fn spent(
        &mut self,
        epoch: Epoch,
        after: Option<Nonce>,
    ) -> Result<Vec<SpentRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT nonce, seq, received_at, message_id FROM spent
             WHERE epoch = $1 AND nonce > $2 ORDER BY nonce LIMIT $3",
        )
        .bind(epoch as i64)
        .bind(after.map(|nonce| nonce.to_vec()).unwrap_or_default())
        .bind(SPENT)
        .fetch_all(&mut self.0)
        .await?;
        let row = |row: PgRow| {
            Ok(SpentRow {
                nonce: row.try_get("nonce")?,
                seq: row.try_get("seq")?,
                received_at: row.try_get("received_at")?,
                message_id: row.try_get("message_id")?,
            })
        };
        rows.into_iter().map(row).collect()
    }
}
