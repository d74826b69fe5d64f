//! What an operator may ask of the database: how much is in it, and whether it is sound.

use serde::Serialize;
use tocyn_protocol::log::tile::{ENTRY_HEADER_BYTES, TILE_WIDTH};
use tocyn_protocol::pairing::{Epoch, Pairing, PairingId};
use tocyn_service::doctor::Standing;

use super::{Store, StoreError};

/// How much is in the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// The oldest sequence kept; `head + 1` where nothing is kept.
    pub oldest: u64,
    /// The newest sequence ever stored, 0 before the first.
    pub head: u64,
    /// Blocks that the messages in the database are kept in.
    pub blocks: u64,
    /// Sealed bundles of 256 messages, in files.
    pub bundles: u64,
    /// Size of every cell, in bytes.
    pub cell_bytes: u64,
    /// No token of an epoch below this is taken again.
    pub closed_below: Epoch,
    /// Spent tokens of each epoch that is kept, the oldest first.
    pub spent: Vec<SpentInEpoch>,
    /// Bytes on disk of all tables and indexes.
    pub bytes: u64,
    /// Bytes of SQLite's write-ahead log.
    pub wal_bytes: u64,
    /// Bytes of the sealed bundles' files.
    pub sealed_bytes: u64,
}

/// Spent tokens of one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SpentInEpoch {
    /// The epoch.
    pub epoch: Epoch,
    /// How many.
    pub tokens: u64,
}

impl Store {
    /// Counts what is in the database. Reads all of the spent set.
    pub async fn stats(&self) -> Result<Stats, StoreError> {
        match self {
            Self::Sqlite(store) => store.stats().await,
            Self::Postgres(store) => store.stats().await,
        }
    }

    /// How the database stands to a pairing.
    pub async fn standing(&self, pairing: &Pairing) -> Result<Standing, StoreError> {
        match self {
            Self::Sqlite(store) => store.standing(pairing).await,
            Self::Postgres(store) => store.standing(pairing).await,
        }
    }

    /// The pairing that the database is tied to.
    pub async fn pairing_id(&self) -> Result<PairingId, StoreError> {
        let id: Vec<u8> = match self {
            Self::Sqlite(store) => store.pairing_id().await?,
            Self::Postgres(store) => store.pairing_id().await?,
        };
        let id = id.try_into().map_err(|_| sqlx::Error::Decode("an id has 32 bytes".into()))?;
        Ok(PairingId(id))
    }

    /// What is wrong with the database; empty if nothing is. Reads all of it.
    pub async fn check(&self) -> Result<Vec<String>, StoreError> {
        let mut faults = match self {
            Self::Sqlite(store) => store.check().await?,
            Self::Postgres(store) => store.check().await?,
        };
        let rule = "a message is not the one in the tree";
        let other = self.first_other_than_in_tree().await?;
        faults.extend(other.map(|seq| format!("{rule}: first at sequence {seq}")));
        Ok(faults)
    }
}

/// Bytes of the files of so many sealed bundles.
pub(super) fn sealed_bytes(bundles: u64, cell_bytes: u64) -> u64 {
    bundles * TILE_WIDTH * (ENTRY_HEADER_BYTES as u64 + cell_bytes)
}

/// What any database must satisfy: what is wrong otherwise, and the query for the sequences where.
/// `block_bytes` is the SQL for the bytes that a block must have, `bytes` for those that it has,
/// `spent` for the table of spent tokens.
pub(super) fn rules(bytes: &str, block_bytes: &str, spent: &str) -> [(&'static str, String); 8] {
    [
        (
            "a block does not begin where the one before it ends, or in sealed bundles",
            "SELECT first_seq FROM (SELECT first_seq,
                 lag(first_seq + messages) OVER (ORDER BY first_seq) AS expected FROM blocks) AS b
             WHERE first_seq < expected OR first_seq > expected AND NOT EXISTS (
                 SELECT 1 FROM (SELECT min(bundle) AS first, max(bundle) AS last FROM bundles) AS s
                 WHERE s.first * 256 < expected AND first_seq <= s.last * 256 + 257)"
                .to_owned(),
        ),
        (
            "the blocks after the sealed bundles do not begin where those end",
            "SELECT first_seq FROM (SELECT min(first_seq) AS first_seq FROM blocks
                 WHERE first_seq + messages > (SELECT max(bundle) FROM bundles) * 256 + 257) AS b
             WHERE first_seq > (SELECT max(bundle) FROM bundles) * 256 + 257"
                .to_owned(),
        ),
        (
            "a sealed bundle does not follow the one before it",
            "SELECT bundle * 256 + 1 FROM (SELECT bundle,
                 lag(bundle) OVER (ORDER BY bundle) AS before FROM bundles) AS b
             WHERE bundle <> before + 1"
                .to_owned(),
        ),
        (
            "the last block, or sealed bundle, does not end at the log's head",
            "SELECT last FROM (SELECT max(last) AS last FROM (
                 SELECT max(first_seq + messages) - 1 AS last FROM blocks
                 UNION ALL SELECT max(bundle) * 256 + 256 FROM bundles) AS ends) AS b, log
             WHERE last <> head"
                .to_owned(),
        ),
        (
            "the tree does not end at the log's head",
            "SELECT head FROM log WHERE head <> coalesce(
                 (SELECT max(first_seq + length(hashes) / 32) - 1 FROM leaves),
                 256 * (SELECT count(*) FROM tiles WHERE level = 0))"
                .to_owned(),
        ),
        (
            "a block has other bytes than its number of messages says",
            format!("SELECT first_seq FROM blocks, log WHERE {bytes} <> {block_bytes}"),
        ),
        (
            "a token was spent on a message beyond the log's head",
            format!("SELECT seq FROM {spent} AS s, log WHERE seq > head"),
        ),
        (
            "two tokens were spent on one message",
            format!("SELECT seq FROM {spent} AS s GROUP BY seq HAVING count(*) > 1"),
        ),
    ]
}

/// One line for the sequences that break a rule, at most a few of them. None if there are none.
pub(super) fn broken(rule: &str, sequences: &[i64]) -> Option<String> {
    let first: Vec<String> = sequences.iter().take(5).map(i64::to_string).collect();
    (!sequences.is_empty()).then(|| {
        format!("{rule}: {} times, first at sequence {}", sequences.len(), first.join(", "))
    })
}
