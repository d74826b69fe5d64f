//! Trees of logs, as far as they were checked, and what is still to be held against them.

use sqlx::Row;
use tocyn_protocol::error::DecodeError;
use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::log::tile::{Content, TILE_WIDTH, Tile, decode_hashes, encode_hashes};
use tocyn_protocol::log::tree::{NodeHash, Tree};
use tocyn_protocol::relay::{MessageId, PostReceipt, ProvenReceipt};

use super::{Wallet, WalletError, bytes32};
use crate::log::files::TileSource;
use crate::log::nodes;

/// Leaves that are kept in memory until their tiles are written.
const HEAVY_LEAVES: u64 = 65_536;

/// How far a log was checked.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct CheckedLog {
    /// Leaves.
    #[sqlx(try_from = "i64")]
    pub size: u64,
    /// Their checkpoint, a signed note.
    pub checkpoint: String,
    /// Unix seconds: when the relay was last asked.
    #[sqlx(try_from = "i64")]
    pub synced_at: u64,
}

/// A checkpoint that this wallet was shown, or that a member passed on.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Claim {
    /// To forget it by.
    pub id: i64,
    /// The signed note.
    pub note: String,
}

/// Something that a relay did wrong.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow, serde::Serialize)]
pub struct FaultFound {
    /// For people to read.
    pub what: String,
    /// The evidence, where there is any.
    pub file: Option<String>,
}

/// The tiles of one log in a wallet.
pub struct WalletTiles<'a> {
    wallet: &'a Wallet,
    log_key: String,
}

impl TileSource for WalletTiles<'_> {
    type Error = WalletError;

    async fn hashes(&self, tile: Tile) -> Result<Vec<NodeHash>, WalletError> {
        let Content::Hashes(level) = tile.content else { return Err(damaged()) };
        let hashes: Option<Vec<u8>> = sqlx::query_scalar(
            "SELECT hashes FROM tiles WHERE log_key = ?1 AND level = ?2 AND tile = ?3",
        )
        .bind(&self.log_key)
        .bind(level)
        .bind(tile.index as i64)
        .fetch_optional(&self.wallet.pool)
        .await?;
        let hashes = hashes.ok_or_else(damaged)?;
        let width = usize::from(tile.width) * 32;
        Ok(decode_hashes(hashes.get(..width).ok_or_else(damaged)?, tile.width)?)
    }
}

/// A tree that grows, in a transaction, so that it may grow far without being in memory.
pub struct Growing<'a> {
    tx: sqlx::Transaction<'a, sqlx::Sqlite>,
    log_key: String,
    /// Leaves whose tiles are written.
    stored: u64,
    /// The tree: of full tiles that are written it has no nodes any more.
    pub tree: Tree,
}

impl Growing<'_> {
    /// Writes tiles if many leaves were added.
    pub async fn put_away_if_heavy(&mut self) -> Result<(), WalletError> {
        match self.tree.size() - self.stored >= HEAVY_LEAVES {
            true => self.put_away().await,
            false => Ok(()),
        }
    }

    async fn put_away(&mut self) -> Result<(), WalletError> {
        let changed = nodes::changed_tiles(&self.tree, self.stored).ok_or_else(damaged)?;
        for (tile, hashes) in changed {
            let Content::Hashes(level) = tile.content else { continue };
            sqlx::query(
                "INSERT INTO tiles (log_key, level, tile, hashes) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET hashes = excluded.hashes",
            )
            .bind(&self.log_key)
            .bind(level)
            .bind(tile.index as i64)
            .bind(encode_hashes(&hashes))
            .execute(&mut *self.tx)
            .await?;
        }
        self.stored = self.tree.size();
        self.tree.forget_full_tiles(self.stored);
        Ok(())
    }

    /// Keeps the tree, which was checked against this checkpoint.
    pub async fn keep(mut self, checkpoint: &str, now: u64) -> Result<(), WalletError> {
        self.put_away().await?;
        sqlx::query(
            "INSERT INTO trees (log_key, size, checkpoint, synced_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET size = excluded.size, checkpoint = excluded.checkpoint,
                 synced_at = excluded.synced_at",
        )
        .bind(&self.log_key)
        .bind(self.tree.size() as i64)
        .bind(checkpoint)
        .bind(now as i64)
        .execute(&mut *self.tx)
        .await?;
        Ok(self.tx.commit().await?)
    }
}

fn damaged() -> WalletError {
    DecodeError::Text { what: "tree of a log", why: "a tile is missing" }.into()
}

impl Wallet {
    /// How far the log was checked; None if never.
    pub async fn checked_log(&self, key: &VerifierKey) -> Result<Option<CheckedLog>, WalletError> {
        let log =
            sqlx::query_as("SELECT size, checkpoint, synced_at FROM trees WHERE log_key = ?1");
        Ok(log.bind(key.to_string()).fetch_optional(&self.pool).await?)
    }

    /// The log's tiles.
    pub fn tiles(&self, key: &VerifierKey) -> WalletTiles<'_> {
        WalletTiles { wallet: self, log_key: key.to_string() }
    }

    /// The tree as far as it was checked, with its partial tiles.
    pub async fn tree(&self, key: &VerifierKey) -> Result<Tree, WalletError> {
        let size = self.checked_log(key).await?.map_or(0, |log| log.size);
        nodes::tree(&self.tiles(key), size).await?.ok_or_else(damaged)
    }

    /// The tree, to grow. Nothing of what is added stays unless it is kept.
    pub async fn grow(&self, key: &VerifierKey) -> Result<Growing<'_>, WalletError> {
        let tree = self.tree(key).await?;
        let tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Growing { tx, log_key: key.to_string(), stored: tree.size(), tree })
    }

    /// The leaves `first` to `first + number`, all in one tile.
    pub async fn leaves(
        &self,
        key: &VerifierKey,
        first: u64,
        number: u64,
    ) -> Result<Vec<NodeHash>, WalletError> {
        let start = first % TILE_WIDTH;
        let width = (start + number).min(TILE_WIDTH) as u16;
        let tile = Tile { content: Content::Hashes(0), index: first / TILE_WIDTH, width };
        Ok(self.tiles(key).hashes(tile).await?.split_off(start as usize))
    }

    /// A signed checkpoint is to be held against the tree.
    pub async fn add_claim(&self, key: &VerifierKey, note: &str) -> Result<(), WalletError> {
        sqlx::query("INSERT OR IGNORE INTO claims (log_key, note) VALUES (?1, ?2)")
            .bind(key.to_string())
            .bind(note)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Checkpoints that are to be held against the tree.
    pub async fn claims(&self, key: &VerifierKey) -> Result<Vec<Claim>, WalletError> {
        let claims = sqlx::query_as("SELECT id, note FROM claims WHERE log_key = ?1");
        Ok(claims.bind(key.to_string()).fetch_all(&self.pool).await?)
    }

    /// Forgets a checkpoint that was held against the tree.
    pub async fn drop_claim(&self, claim: &Claim) -> Result<(), WalletError> {
        sqlx::query("DELETE FROM claims WHERE id = ?1").bind(claim.id).execute(&self.pool).await?;
        Ok(())
    }

    /// Receipts that were not yet found in the log.
    pub async fn receipts(&self, key: &VerifierKey) -> Result<Vec<ProvenReceipt>, WalletError> {
        let rows = sqlx::query("SELECT seq, message_id, proof FROM receipts WHERE log_key = ?1");
        let rows = rows.bind(key.to_string()).fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                let message_id = MessageId::from_bytes(bytes32(row, "message_id")?);
                let seq = row.try_get::<i64, _>("seq")? as u64;
                let receipt = PostReceipt { seq, message_id, received_at: 0 };
                Ok(ProvenReceipt { receipt, proof: row.try_get("proof")? })
            })
            .collect()
    }

    /// Forgets a receipt that was held against the tree.
    pub async fn drop_receipt(
        &self,
        key: &VerifierKey,
        receipt: &PostReceipt,
    ) -> Result<(), WalletError> {
        sqlx::query("DELETE FROM receipts WHERE log_key = ?1 AND seq = ?2 AND message_id = ?3")
            .bind(key.to_string())
            .bind(receipt.seq as i64)
            .bind(&receipt.message_id.as_bytes()[..])
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Remembers that the tree is too short for this claim; false if that was known.
    pub async fn tell_claim(&self, claim: &Claim) -> Result<bool, WalletError> {
        let done = sqlx::query("UPDATE claims SET told = 1 WHERE id = ?1 AND told = 0");
        Ok(done.bind(claim.id).execute(&self.pool).await?.rows_affected() > 0)
    }

    /// The same for a receipt.
    pub async fn tell_receipt(
        &self,
        key: &VerifierKey,
        receipt: &PostReceipt,
    ) -> Result<bool, WalletError> {
        let done = sqlx::query(
            "UPDATE receipts SET told = 1
             WHERE log_key = ?1 AND seq = ?2 AND message_id = ?3 AND told = 0",
        );
        let done = done.bind(key.to_string()).bind(receipt.seq as i64);
        let done = done.bind(&receipt.message_id.as_bytes()[..]).execute(&self.pool).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Remembers what a relay did wrong.
    pub async fn keep_fault(
        &self,
        key: &VerifierKey,
        what: &str,
        file: Option<&str>,
    ) -> Result<(), WalletError> {
        sqlx::query("INSERT OR IGNORE INTO faults (log_key, what, file) VALUES (?1, ?2, ?3)")
            .bind(key.to_string())
            .bind(what)
            .bind(file)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// What a relay did wrong, so far.
    pub async fn faults(&self, key: &VerifierKey) -> Result<Vec<FaultFound>, WalletError> {
        let faults = sqlx::query_as("SELECT what, file FROM faults WHERE log_key = ?1 ORDER BY id");
        Ok(faults.bind(key.to_string()).fetch_all(&self.pool).await?)
    }

    /// The logs that this wallet knows of.
    pub async fn checked_logs(&self) -> Result<Vec<VerifierKey>, WalletError> {
        let keys: Vec<String> = sqlx::query_scalar(
            "SELECT log_key FROM trees UNION SELECT log_key FROM groups
             UNION SELECT log_key FROM faults UNION SELECT origin_key FROM origins
             UNION SELECT log_key FROM receipts ORDER BY log_key",
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(keys.iter().map(|key| key.parse()).collect::<Result<_, _>>()?)
    }
}
