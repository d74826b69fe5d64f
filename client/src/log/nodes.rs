//! Roots and proofs from tiles that lie elsewhere. Which ones are needed shows while computing.

use std::cell::Cell;

use tocyn_protocol::log::proof::{ConsistencyProof, InclusionProof};
use tocyn_protocol::log::tile::{Content, TILE_HEIGHT, TILE_LEVELS, TILE_WIDTH, Tile, Tiles};
use tocyn_protocol::log::tree::{Edge, NodeHash, Nodes, Tree};

use super::files::TileSource;

/// Nodes of a tree, and the first of them that was asked for in vain.
struct Fetched {
    tiles: Tiles,
    missing: Cell<Option<(u8, u64)>>,
}

impl Nodes for Fetched {
    fn node(&self, level: u8, index: u64) -> Option<NodeHash> {
        let node = self.tiles.node(level, index);
        if node.is_none() && self.missing.get().is_none() {
            self.missing.set(Tiles::place(level, index));
        }
        node
    }
}

/// Computes something about the tree of `size` leaves. None if its tiles lack what they should have.
async fn compute<S: TileSource, T>(
    source: &S,
    size: u64,
    compute: impl Fn(&Fetched) -> Option<T>,
) -> Result<Option<T>, S::Error> {
    let mut nodes = Fetched { tiles: Tiles::default(), missing: Cell::new(None) };
    loop {
        if let Some(computed) = compute(&nodes) {
            return Ok(Some(computed));
        }
        let Some((level, index)) = nodes.missing.take() else { return Ok(None) };
        let tile = Tile::in_tree(Content::Hashes(level), index, size);
        let Some(tile) = tile.filter(|_| !nodes.tiles.0.contains_key(&(level, index))) else {
            return Ok(None);
        };
        let hashes = source.hashes(tile).await?;
        nodes.tiles.0.insert((level, index), hashes);
    }
}

/// The root of the first `prefix` of `size` leaves, and the proof that they begin the tree.
pub async fn prefix<S: TileSource>(
    source: &S,
    prefix: u64,
    size: u64,
) -> Result<Option<(NodeHash, ConsistencyProof)>, S::Error> {
    compute(source, size, |nodes| {
        let root = Edge::new(prefix, nodes)?.root();
        let proof = ConsistencyProof::new(prefix, &Edge::new(size, nodes)?, nodes)?;
        Some((root, proof))
    })
    .await
}

/// A leaf of the tree of `size` leaves, with its proof.
pub async fn leaf<S: TileSource>(
    source: &S,
    index: u64,
    size: u64,
) -> Result<Option<(NodeHash, InclusionProof)>, S::Error> {
    compute(source, size, |nodes| {
        let proof = InclusionProof::new(index, &Edge::new(size, nodes)?, nodes)?;
        Some((nodes.node(0, index)?, proof))
    })
    .await
}

/// The tree of `size` leaves, with the nodes that are in partial tiles. None if these do not fit it.
pub async fn tree<S: TileSource>(source: &S, size: u64) -> Result<Option<Tree>, S::Error> {
    let mut partial_tiles = Vec::new();
    for level in 0..TILE_LEVELS {
        let nodes = size.checked_shr(u32::from(level * TILE_HEIGHT)).unwrap_or(0);
        let tile = Tile::in_tree(Content::Hashes(level), nodes / TILE_WIDTH, size);
        partial_tiles.push(match tile {
            Some(tile) => source.hashes(tile).await?,
            None => Vec::new(),
        });
    }
    Ok(Tree::of_partial_tiles(size, &partial_tiles))
}

/// The tiles that are other ones, or longer, than when the tree had `old_size` leaves.
pub fn changed_tiles(tree: &Tree, old_size: u64) -> Option<Vec<(Tile, Vec<NodeHash>)>> {
    let mut changed = Vec::new();
    for level in 0..TILE_LEVELS {
        let first = old_size.checked_shr(u32::from(level * TILE_HEIGHT)).unwrap_or(0);
        for index in first / TILE_WIDTH.. {
            let tile = Tile::in_tree(Content::Hashes(level), index, tree.size());
            let Some(tile) = tile else { break };
            let node = |n| tree.node(level * TILE_HEIGHT, tile.start() + n);
            let hashes: Option<Vec<_>> = (0..u64::from(tile.width)).map(node).collect();
            changed.push((tile, hashes?));
        }
    }
    Some(changed)
}
