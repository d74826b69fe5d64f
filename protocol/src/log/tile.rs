//! Files that hold the log: hashes of the tree, or cells, 256 in each (c2sp.org/tlog-tiles).

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use super::tree::{HASH_BYTES, NodeHash, Nodes};
use crate::codec::{Reader, put_u16_bytes};
use crate::error::DecodeError;

/// Levels of the tree in a tile.
pub const TILE_HEIGHT: u8 = 8;
/// Levels of tiles that a tree can have.
pub const TILE_LEVELS: u8 = 64 / TILE_HEIGHT;
/// Hashes in a full tile, and cells in a full bundle.
pub const TILE_WIDTH: u64 = 1 << TILE_HEIGHT;
/// The largest cell in bytes: a bundle has a `u16` for its length.
pub const MAX_ENTRY_BYTES: usize = u16::MAX as usize;
/// Bytes before each cell of a bundle: its length, a big-endian `u16`.
pub const ENTRY_HEADER_BYTES: usize = 2;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// Nodes of the tree at [`TILE_HEIGHT`] times this level, 0 to 7.
    Hashes(u8),
    /// Cells, each after its length.
    Entries,
}

/// A file: `tile/<L>/<N>`, `tile/entries/<N>`, and `.p/<W>` after it while it is not full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// What it holds.
    pub content: Content,
    /// Its place among those of its kind and level, from 0.
    pub index: u64,
    /// How many it holds, 1 to 256.
    pub width: u16,
}

impl Tile {
    /// The tile as it is in a tree of `size` leaves; None where that has none of it.
    pub fn in_tree(content: Content, index: u64, size: u64) -> Option<Self> {
        let level = match content {
            Content::Hashes(level) => u32::from(level) * u32::from(TILE_HEIGHT),
            Content::Entries => 0,
        };
        let nodes = size.checked_shr(level)?.checked_sub(index.checked_mul(TILE_WIDTH)?)?;
        let width = nodes.min(TILE_WIDTH) as u16;
        (width > 0).then_some(Self { content, index, width })
    }

    /// Whether it holds all that it ever will.
    pub fn is_full(&self) -> bool {
        u64::from(self.width) == TILE_WIDTH
    }

    /// The index in its level of the first node that it holds, or of the first cell.
    pub fn start(&self) -> u64 {
        self.index * TILE_WIDTH
    }
}

/// The path below the log's address, without a slash before it.
impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.content {
            Content::Hashes(level) => write!(f, "tile/{level}/")?,
            Content::Entries => f.write_str("tile/entries/")?,
        }
        let mut groups = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for group in groups[1..].iter().rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", groups[0])?;
        match self.is_full() {
            true => Ok(()),
            false => write!(f, ".p/{}", self.width),
        }
    }
}

/// Refuses every other way to write the same path.
impl FromStr for Tile {
    type Err = DecodeError;

    fn from_str(path: &str) -> Result<Self, DecodeError> {
        let refused =
            DecodeError::Text { what: "tile path", why: "it must be tile/<L>/<N>[.p/<W>]" };
        let parse = || {
            let (kind, place) = path.strip_prefix("tile/")?.split_once('/')?;
            let content = match kind {
                "entries" => Content::Entries,
                level => Content::Hashes(level.parse().ok().filter(|level| *level < TILE_HEIGHT)?),
            };
            let (place, width) = match place.split_once(".p/") {
                None => (place, TILE_WIDTH as u16),
                Some((place, width)) => (place, width.parse().ok()?),
            };
            let mut index = 0u64;
            for group in place.split('/') {
                let group: u64 = group.strip_prefix('x').unwrap_or(group).parse().ok()?;
                index = index.checked_mul(1000)?.checked_add(group)?;
            }
            Some(Self { content, index, width })
        };
        let tile: Self = parse().ok_or(refused.clone())?;
        // So that where it ends is a number too.
        let is_valid = tile.index < u64::MAX / TILE_WIDTH
            && (1..=TILE_WIDTH as u16).contains(&tile.width)
            && tile.to_string() == path;
        if is_valid { Ok(tile) } else { Err(refused) }
    }
}

/// The hashes of a tile, one after the other.
pub fn encode_hashes(hashes: &[NodeHash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The hashes of a tile of this width; other lengths are refused.
pub fn decode_hashes(bytes: &[u8], width: u16) -> Result<Vec<NodeHash>, DecodeError> {
    let expected = usize::from(width) * HASH_BYTES;
    if bytes.len() != expected {
        return Err(DecodeError::Text {
            what: "tile",
            why: "it has another length than its path says",
        });
    }
    let (hashes, _) = bytes.as_chunks();
    Ok(hashes.iter().copied().map(NodeHash).collect())
}

/// The node `height` levels above these hashes of a tile, in their order: $2^{height}$ of them.
pub fn node_above(hashes: &[NodeHash]) -> NodeHash {
    match hashes {
        [one] => *one,
        [left, right] => NodeHash::above(*left, *right),
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            NodeHash::above(node_above(left), node_above(right))
        }
    }
}

/// Some tiles of hashes, by level and index, full or not.
#[derive(Clone, Debug, Default)]
pub struct Tiles(pub HashMap<(u8, u64), Vec<NodeHash>>);

impl Tiles {
    /// Where a node is: the level and index of its tile.
    pub fn place(level: u8, index: u64) -> Option<(u8, u64)> {
        let first = index.checked_shl(u32::from(level % TILE_HEIGHT))?;
        Some((level / TILE_HEIGHT, first / TILE_WIDTH))
    }
}

impl Nodes for Tiles {
    fn node(&self, level: u8, index: u64) -> Option<NodeHash> {
        let tile = self.0.get(&Self::place(level, index)?)?;
        let height = level % TILE_HEIGHT;
        let start = (index << height) % TILE_WIDTH;
        Some(node_above(tile.get(start as usize..(start + (1 << height)) as usize)?))
    }
}

/// Adds a cell to a bundle.
pub fn put_entry(bundle: &mut Vec<u8>, cell: &[u8]) {
    put_u16_bytes(bundle, cell);
}

/// The cells of a bundle, of whatever number and sizes: the tree tells whether they are those of the log.
pub fn decode_entries(bytes: &[u8]) -> Result<Vec<&[u8]>, DecodeError> {
    let mut rest = bytes;
    let mut cells = Vec::new();
    while !rest.is_empty() {
        let mut reader = Reader::new("bundle", rest);
        let len = reader.u16()?;
        let cell = reader.bytes(len.into())?;
        cells.push(cell);
        rest = &rest[ENTRY_HEADER_BYTES + cell.len()..];
    }
    Ok(cells)
}
