//! The tree over all messages, as the database keeps it: full tiles, and the leaves after them.

use tocyn_protocol::log::tile::{TILE_WIDTH, decode_hashes, encode_hashes};
use tocyn_protocol::log::tree::{HASH_BYTES, NodeHash};
use tocyn_protocol::relay::{MessageId, STREAM_HEADER_BYTES};

use super::{Store, StoreError};

/// Leaves that are read in one piece, or those of one commit.
pub(super) const LEAVES: u64 = 65_536;

/// Messages that are checked in one piece.
const MESSAGES: u64 = 4096;

/// Leaves of consecutive messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaves {
    /// The sequence of the first one.
    pub first_seq: u64,
    /// At least one.
    pub hashes: Vec<NodeHash>,
}

/// A full tile of hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullTile {
    /// Its level, in tiles.
    pub level: u8,
    /// Its place in the level.
    pub index: u64,
    /// 256.
    pub hashes: Vec<NodeHash>,
}

impl Leaves {
    pub(super) fn of_row(first_seq: i64, hashes: &[u8]) -> Result<Self, StoreError> {
        let width = u16::try_from(hashes.len() / HASH_BYTES).unwrap_or(0);
        let hashes = decode_hashes(hashes, width).ok().filter(|hashes| !hashes.is_empty());
        Ok(Self { first_seq: first_seq as u64, hashes: hashes.ok_or(StoreError::Tree)? })
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        encode_hashes(&self.hashes)
    }
}

/// The hashes of a full tile.
pub(super) fn full_tile(hashes: &[u8]) -> Result<Vec<NodeHash>, StoreError> {
    decode_hashes(hashes, TILE_WIDTH as u16).map_err(|_| StoreError::Tree)
}

impl Store {
    /// The leaves of the messages after the sequence `after`, as many as fit, but none that are in
    /// a full tile which was put away. The first rows may begin before.
    pub async fn leaves_after(&self, after: u64) -> Result<Vec<Leaves>, StoreError> {
        match self {
            Self::Sqlite(store) => store.leaves_after(after).await,
            Self::Postgres(store) => store.leaves_after(after).await,
        }
    }

    /// Full tiles of level 0 that were put away; they are dense from 0 on.
    pub async fn tiled(&self) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(store) => store.tiled().await,
            Self::Postgres(store) => store.tiled().await,
        }
    }

    /// A full tile that was put away.
    pub async fn tile(&self, level: u8, index: u64) -> Result<Option<Vec<NodeHash>>, StoreError> {
        match self {
            Self::Sqlite(store) => store.tile(level, index).await,
            Self::Postgres(store) => store.tile(level, index).await,
        }
    }

    /// Puts full tiles away, and drops the leaves that are in them: those of whole commits that end
    /// at or before the sequence `tiled`. Tiles that are there stay as they are; where one is
    /// another one, or the log is not as long, this fails.
    pub async fn put_tiles(&self, tiles: &[FullTile], tiled: u64) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.put_tiles(tiles, tiled).await,
            Self::Postgres(store) => store.put_tiles(tiles, tiled).await,
        }
    }

    /// Adds the leaves of messages that were stored before there was a tree.
    pub async fn put_old_leaves(&self, leaves: &Leaves) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.put_old_leaves(leaves).await,
            Self::Postgres(store) => store.put_old_leaves(leaves).await,
        }
    }

    /// The key that it is tied to, if it is.
    pub async fn key(&self) -> Result<Option<String>, StoreError> {
        match self {
            Self::Sqlite(store) => store.key().await,
            Self::Postgres(store) => store.key().await,
        }
    }

    /// The first message in the database that is not the one in the tree. Reads all of them.
    pub(super) async fn first_other_than_in_tree(&self) -> Result<Option<u64>, StoreError> {
        let range = self.range().await?;
        let mut known = Leaves { first_seq: 1, hashes: Vec::new() };
        let mut after = range.oldest - 1;
        let mut sealed = self.sealed().await?;
        loop {
            if sealed.contains(&(after / TILE_WIDTH)) {
                after = sealed.end * TILE_WIDTH;
            }
            let Some(page) = self.read_after(after, MESSAGES).await? else {
                // The end; or a relay has sealed or dropped meanwhile all that comes here.
                let oldest = self.range().await?.oldest;
                sealed = self.sealed().await?;
                if !sealed.contains(&(after / TILE_WIDTH)) && oldest <= after + 1 {
                    return Ok(None);
                }
                after = after.max(oldest - 1);
                continue;
            };
            let cells = page.bytes.chunks_exact(page.bytes.len() / page.messages as usize);
            for (seq, frame) in (page.last + 1 - page.messages..).zip(cells) {
                let place = |known: &Leaves| seq.checked_sub(known.first_seq).map(|at| at as usize);
                if place(&known).is_none_or(|at| at >= known.hashes.len()) {
                    let Some(next) = self.leaves_at(seq).await? else {
                        return Ok(Some(seq));
                    };
                    known = next;
                }
                let leaf = MessageId::of(&frame[STREAM_HEADER_BYTES..]).into();
                if place(&known).and_then(|at| known.hashes.get(at)) != Some(&leaf) {
                    return Ok(Some(seq));
                }
            }
            after = page.last;
        }
    }

    /// Some leaves, that of the message `seq` among them. They may go into a tile meanwhile.
    async fn leaves_at(&self, seq: u64) -> Result<Option<Leaves>, StoreError> {
        let leaves = self.leaves_after(seq - 1).await?.into_iter().next();
        if let Some(leaves) = leaves.filter(|leaves| leaves.first_seq <= seq) {
            return Ok(Some(leaves));
        }
        let index = (seq - 1) / TILE_WIDTH;
        let tile = self.tile(0, index).await?;
        Ok(tile.map(|hashes| Leaves { first_seq: index * TILE_WIDTH + 1, hashes }))
    }
}
