//! Moving a stopped relay from SQLite to PostgreSQL: all or nothing, and compared afterwards.

use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnectOptions;
use tocyn_protocol::log::tile::{TILE_LEVELS, TILE_WIDTH, encode_hashes};
use tocyn_protocol::pairing::Epoch;

use super::bundles::BundleRow;
use super::page::Block;
use super::postgres::Target;
use super::tree::{FullTile, Leaves};
use super::{Nonce, Store, StoreError};
use tocyn_service::database::Database;

/// Levels that tiles can have.
/// What was moved; the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// Messages that are kept, in the database or sealed.
    pub messages: u64,
    /// Spent tokens of the epochs that are not closed.
    pub spent: u64,
    /// SHA-256 over all facts about the log, all messages in the database with their sequences and
    /// times, which bundles are sealed, and all spent tokens with their receipts, in
    /// hexadecimal digits.
    pub digest: String,
}

/// How the move went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copying {
    /// It is done now.
    Done(Copied),
    /// The target had all of it already: an earlier move was complete.
    DoneBefore(Copied),
    /// It was moved there before, and the log has gone on there.
    GoneOn,
    /// It was moved to this other place before, or the move was begun.
    Elsewhere(String),
    /// The target has something else.
    NotEmpty,
    /// What was written does not read as what was to be written; nothing was kept.
    Differs,
}

/// Facts about the whole log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) head: i64,
    pub(super) cell_bytes: i64,
    pub(super) closed_below: i64,
    pub(super) pairing_id: Vec<u8>,
    pub(super) verifier_key: Option<String>,
    /// Bundles before this one were dropped.
    pub(super) dropped_below: i64,
    /// Up to when the clock was believed. Not in the digest: it moves on without any use.
    pub(super) settled_at: Option<i64>,
    /// Each with the leaves of its tree, by serial.
    pub(super) statements: Vec<StatementRow>,
    /// Sorted.
    pub(super) retired_pairings: Vec<Vec<u8>>,
}

/// A statement of keys with the leaves of its tree.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct StatementRow {
    pub(super) serial: i64,
    pub(super) note: String,
    pub(super) since: i64,
    pub(super) leaves: Vec<u8>,
}

/// A block with its time.
pub(super) struct TimedBlock {
    pub(super) block: Block,
    pub(super) received_at: i64,
}

/// A spent token and its receipt.
#[derive(Clone, Debug)]
pub(super) struct SpentRow {
    pub(super) nonce: Nonce,
    pub(super) seq: i64,
    pub(super) received_at: i64,
    pub(super) message_id: [u8; 32],
}

/// Where a whole log can be read from: everything in a fixed order, in pieces of moderate size.
pub(super) trait Source {
    async fn facts(&mut self) -> Result<Facts, StoreError>;
    /// The blocks from the sequence `from` on; empty at the end.
    async fn blocks(&mut self, from: u64) -> Result<Vec<TimedBlock>, StoreError>;
    /// The sealed bundles from a place on, in order; empty at the end.
    async fn bundles(&mut self, from: u64) -> Result<Vec<BundleRow>, StoreError>;
    /// Tiles of a level from an index on, in order; empty at the end.
    async fn tiles(&mut self, level: u8, from: u64) -> Result<Vec<FullTile>, StoreError>;
    /// The leaves of messages from a sequence on, in order; empty at the end.
    async fn leaves(&mut self, from: u64) -> Result<Vec<Leaves>, StoreError>;
    /// The epochs that have spent tokens and are not closed, in order.
    async fn epochs(&mut self) -> Result<Vec<Epoch>, StoreError>;
    /// Spent tokens of an epoch after this nonce, in the order of nonces; empty at the end.
    async fn spent(
        &mut self,
        epoch: Epoch,
        after: Option<Nonce>,
    ) -> Result<Vec<SpentRow>, StoreError>;
}

/// The digest of all that a source has. How messages are cut into blocks does not count.
async fn digest(source: &mut impl Source) -> Result<Copied, StoreError> {
    let mut hash = Sha256::new();
    let facts = source.facts().await?;
    for number in [facts.head, facts.cell_bytes, facts.closed_below, facts.dropped_below] {
        hash.update(number.to_be_bytes());
    }
    hash.update(&facts.pairing_id);
    hash.update(facts.verifier_key.as_deref().unwrap_or_default());
    facts.retired_pairings.iter().for_each(|id| hash.update(id));
    for row in &facts.statements {
        hash.update(row.serial.to_be_bytes());
        hash.update(row.since.to_be_bytes());
        hash.update(Sha256::digest(&row.note));
        hash.update(Sha256::digest(&row.leaves));
    }
    let mut sealed = Vec::new();
    loop {
        let from = sealed.last().map_or(0, |last: &BundleRow| last.bundle as u64 + 1);
        let bundles = source.bundles(from).await?;
        if bundles.is_empty() {
            break;
        }
        for row in &bundles {
            hash.update(row.bundle.to_be_bytes());
            hash.update(row.received_at.to_be_bytes());
        }
        sealed.extend(bundles);
    }
    // Some of their messages may be in blocks too.
    let bundles = sealed.first().zip(sealed.last());
    let is_sealed = |seq: u64| {
        let bundle = ((seq - 1) / TILE_WIDTH) as i64;
        bundles.is_some_and(|(first, last)| (first.bundle..=last.bundle).contains(&bundle))
    };
    let frame_bytes = super::page::SEQUENCE_BYTES + facts.cell_bytes as usize;
    let (mut messages, mut next) = (sealed.len() as u64 * TILE_WIDTH, 0);
    loop {
        let blocks = source.blocks(next).await?;
        let Some(last) = blocks.last() else { break };
        next = last.block.end(frame_bytes);
        for TimedBlock { block, received_at } in &blocks {
            for (seq, frame) in (block.first..).zip(block.frames.chunks_exact(frame_bytes)) {
                hash.update(received_at.to_be_bytes());
                hash.update(frame);
                let is_dropped = seq <= facts.dropped_below as u64 * TILE_WIDTH;
                messages += u64::from(!is_sealed(seq) && !is_dropped);
            }
        }
    }
    for level in 0..TILE_LEVELS {
        let mut from = 0;
        loop {
            let tiles = source.tiles(level, from).await?;
            let Some(last) = tiles.last() else { break };
            from = last.index + 1;
            for tile in &tiles {
                hash.update([tile.level]);
                hash.update(tile.index.to_be_bytes());
                hash.update(encode_hashes(&tile.hashes));
            }
        }
    }
    let mut from = 0;
    loop {
        let leaves = source.leaves(from).await?;
        let Some(last) = leaves.last() else { break };
        from = last.first_seq + last.hashes.len() as u64;
        for leaves in &leaves {
            hash.update(leaves.first_seq.to_be_bytes());
            hash.update(leaves.to_bytes());
        }
    }
    let mut spent = 0;
    for epoch in source.epochs().await? {
        let mut after = None;
        loop {
            let rows = source.spent(epoch, after).await?;
            let Some(last) = rows.last() else { break };
            after = Some(last.nonce);
            spent += rows.len() as u64;
            for row in &rows {
                hash.update(epoch.to_be_bytes());
                hash.update(row.nonce);
                hash.update(row.seq.to_be_bytes());
                hash.update(row.received_at.to_be_bytes());
                hash.update(row.message_id);
            }
        }
    }
    Ok(Copied { messages, spent, digest: hex::encode(hash.finalize()) })
}

/// The cells of a block, without their sequences.
pub(super) fn cells(frames: &Bytes, cell_bytes: usize) -> Vec<u8> {
    let frames = frames.chunks_exact(super::page::SEQUENCE_BYTES + cell_bytes);
    frames.flat_map(|frame| &frame[super::page::SEQUENCE_BYTES..]).copied().collect()
}

impl Store {
    /// Copies all of an SQLite database into an empty PostgreSQL one, in one transaction there, and
    /// reads both back. Right before that is committed this database is marked, so that no relay
    /// serves it again: it would take tokens that are spent there. If this is cut short, the same
    /// call finds out how far it came. Sealed messages stay in the files that they are in.
    ///
    /// # Panics
    /// If this is no SQLite database.
    pub async fn move_to(
        &self,
        server: &PgConnectOptions,
        now: u64,
    ) -> Result<Copying, StoreError> {
        let Self::Sqlite(from) = self else { panic!("moves go from SQLite to PostgreSQL") };
        let mut from = from.clone();
        let to = Database::Postgres(Box::new(server.clone())).to_string();
        let moved_to = from.moved_to().await?;
        if let Some(elsewhere) =
            moved_to.clone().filter(|before| !before.is_empty() && *before != to)
        {
            return Ok(Copying::Elsewhere(elsewhere));
        }
        let expected = digest(&mut from).await?;
        let mut target = Target::open(server).await?;
        if !target.is_empty().await? {
            return Ok(match digest(&mut target).await? == expected {
                true => {
                    from.mark_moved(&to, now).await?;
                    Copying::DoneBefore(expected)
                }
                false if moved_to.is_some() => Copying::GoneOn,
                false => Copying::NotEmpty,
            });
        }
        target.begin().await?;
        let facts = from.facts().await?;
        target.put_facts(&facts).await?;
        let frame_bytes = super::page::SEQUENCE_BYTES + facts.cell_bytes as usize;
        let mut next = 0;
        loop {
            let blocks = from.blocks(next).await?;
            let Some(last) = blocks.last() else { break };
            next = last.block.end(frame_bytes);
            target.put_blocks(&blocks, facts.cell_bytes as usize).await?;
        }
        let mut next = 0;
        loop {
            let bundles = from.bundles(next).await?;
            let Some(last) = bundles.last() else { break };
            next = last.bundle as u64 + 1;
            target.put_bundles(&bundles).await?;
        }
        for level in 0..TILE_LEVELS {
            let mut next = 0;
            loop {
                let tiles = from.tiles(level, next).await?;
                let Some(last) = tiles.last() else { break };
                next = last.index + 1;
                target.put_tiles(&tiles).await?;
            }
        }
        let mut next = 0;
        loop {
            let leaves = from.leaves(next).await?;
            let Some(last) = leaves.last() else { break };
            next = last.first_seq + last.hashes.len() as u64;
            target.put_leaves(&leaves).await?;
        }
        for epoch in from.epochs().await? {
            target.put_epoch(epoch).await?;
            let mut after = None;
            loop {
                let rows = from.spent(epoch, after).await?;
                let Some(last) = rows.last() else { break };
                after = Some(last.nonce);
                target.put_spent(epoch, &rows).await?;
            }
        }
        if digest(&mut target).await? != expected {
            return Ok(Copying::Differs);
        }
        from.mark_moved(&to, now).await?;
        target.commit().await?;
        Ok(Copying::Done(expected))
    }
}
