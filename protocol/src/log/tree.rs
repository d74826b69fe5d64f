//! The Merkle tree of RFC 6962 section 2.1, with SHA-256.
//!
//! Nodes have a level, 0 for leaves, and an index in it. A node is *complete* when all
//! $2^{level}$ leaves below it are there; it never changes then. At most one node in each level is
//! not, at the right edge.

use std::fmt;

use sha2::{Digest, Sha256};

use super::tile::{TILE_HEIGHT, TILE_WIDTH};
use crate::relay::MessageId;

/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;

/// The hash of a leaf, of a node, or of a whole tree.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeHash(pub [u8; HASH_BYTES]);

impl NodeHash {
    /// Of the tree without leaves: SHA-256 of nothing.
    pub fn of_empty_tree() -> Self {
        Self(Sha256::digest([]).into())
    }

    /// Of the node above two others: `SHA-256(0x01 || left || right)`.
    pub fn above(left: Self, right: Self) -> Self {
        Self(
            Sha256::new()
                .chain_update([1])
                .chain_update(left.0)
                .chain_update(right.0)
                .finalize()
                .into(),
        )
    }
}

/// A message's id is the hash of its leaf.
impl From<MessageId> for NodeHash {
    fn from(id: MessageId) -> Self {
        Self(*id.as_bytes())
    }
}

impl From<NodeHash> for MessageId {
    fn from(leaf: NodeHash) -> Self {
        Self::from_bytes(leaf.0)
    }
}

impl fmt::Debug for NodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Whoever can tell complete nodes of a tree.
pub trait Nodes {
    /// The node, or None if it is not known here.
    fn node(&self, level: u8, index: u64) -> Option<NodeHash>;
}

/// The complete nodes of one level, from an index on.
#[derive(Clone, Debug, Default)]
struct Level {
    first: u64,
    nodes: Vec<NodeHash>,
}

impl Level {
    fn end(&self) -> u64 {
        self.first + self.nodes.len() as u64
    }
}

/// A growing tree, of which the end is in memory. Two hashes a leaf, whatever its size.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    size: u64,
    levels: Vec<Level>,
}

impl Tree {
    /// A tree of `size` leaves, of which only the nodes are in memory that are in partial tiles:
    /// `partial_tiles` has the hashes of each, the lowest level first. None if these are not
    /// what a tree of this size has.
    pub fn of_partial_tiles(size: u64, partial_tiles: &[Vec<NodeHash>]) -> Option<Self> {
        let mut tree = Self { size, levels: Vec::new() };
        for (tile_level, hashes) in (0u8..).zip(partial_tiles) {
            let nodes = size.checked_shr(u32::from(tile_level * TILE_HEIGHT))?;
            let mut level = Level { first: nodes - nodes % TILE_WIDTH, nodes: hashes.clone() };
            if level.end() != nodes {
                return None;
            }
            for _ in 0..TILE_HEIGHT {
                let above =
                    level.nodes.chunks_exact(2).map(|pair| NodeHash::above(pair[0], pair[1]));
                let above = Level { first: level.first / 2, nodes: above.collect() };
                tree.levels.push(std::mem::replace(&mut level, above));
            }
        }
        let has_all = size.checked_shr(tree.levels.len() as u32).unwrap_or(0) == 0;
        has_all.then_some(tree)
    }

    /// Leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: NodeHash) {
        let mut hash = leaf;
        let mut level = 0;
        loop {
            if self.levels.len() == level {
                self.levels.push(Level::default());
            }
            let place = &mut self.levels[level];
            let index = place.end();
            place.nodes.push(hash);
            if index & 1 == 0 {
                break;
            }
            let left = place.nodes[place.nodes.len() - 2];
            hash = NodeHash::above(left, hash);
            level += 1;
        }
        self.size += 1;
    }

    /// Forgets all tiles that are full in the tree of the first `size` leaves.
    pub fn forget_full_tiles(&mut self, size: u64) {
        for (number, level) in self.levels.iter_mut().enumerate() {
            let tile_level = number / usize::from(TILE_HEIGHT) * usize::from(TILE_HEIGHT);
            let nodes = (size >> tile_level) / TILE_WIDTH * TILE_WIDTH;
            let keep = (nodes >> (number - tile_level)).max(level.first);
            level.nodes.drain(..(keep - level.first) as usize);
            level.first = keep;
        }
    }
}

impl Nodes for Tree {
    fn node(&self, level: u8, index: u64) -> Option<NodeHash> {
        let level = self.levels.get(usize::from(level))?;
        level.nodes.get(usize::try_from(index.checked_sub(level.first)?).ok()?).copied()
    }
}

/// The root of a tree of so many leaves, and the nodes at its right edge that are not complete.
/// Made once for all proofs about a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    root: NodeHash,
    /// For each level below the root, the node that is not complete, if there is one.
    partial: Vec<Option<NodeHash>>,
}

impl Edge {
    /// Of the first `size` leaves. None if `nodes` lacks a complete node that it takes: in each
    /// level at most one.
    pub fn new(size: u64, nodes: &impl Nodes) -> Option<Self> {
        if size == 0 {
            return Some(Self { size, root: NodeHash::of_empty_tree(), partial: Vec::new() });
        }
        let height = (u64::BITS - (size - 1).leading_zeros()) as u8;
        let mut partial = vec![None];
        for level in 0..height {
            let complete = size >> level;
            let below = partial[usize::from(level)];
            partial.push(match (complete & 1 == 1).then(|| nodes.node(level, complete - 1)) {
                // A node without a sibling goes up as it is.
                None => below,
                Some(left) => {
                    let left = left?;
                    Some(below.map_or(left, |right| NodeHash::above(left, right)))
                }
            });
        }
        let root = match partial.pop().flatten() {
            Some(root) => root,
            None => nodes.node(height, 0)?,
        };
        Some(Self { size, root, partial })
    }

    /// Leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Of the whole tree.
    pub fn root(&self) -> NodeHash {
        self.root
    }

    /// Levels below the root.
    pub(super) fn height(&self) -> u8 {
        self.partial.len() as u8
    }

    /// A node of this tree: complete, or at the edge. None in the first place if it has no leaves,
    /// in the second if `nodes` lacks it.
    pub(super) fn node(
        &self,
        level: u8,
        index: u64,
        nodes: &impl Nodes,
    ) -> Option<Option<NodeHash>> {
        let complete = self.size >> level;
        match index {
            _ if index < complete => Some(nodes.node(level, index)),
            _ if index == complete => self.partial[usize::from(level)].map(Some),
            _ => None,
        }
    }
}
