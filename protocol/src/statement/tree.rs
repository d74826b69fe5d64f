//! The tree over the keys of all epochs of a pairing (RFC 6962). Leaf number `e`, from 0, is the key
//! of epoch `e`; a statement has its root.

use sha2::{Digest, Sha256};

use crate::keys::PublicKey;
use crate::log::proof::{InclusionProof, ProofError};
use crate::log::tree::{Edge, HASH_BYTES, NodeHash, Nodes, Tree};
use crate::pairing::Pairing;
use crate::schedule::{Epoch, MAX_EPOCHS};
use crate::suite::EPOCH_LEAF_LABEL;

/// `SHA-256(0x00 || "tocyn/v1 epoch key" || 0x00 || pkI)`.
pub fn leaf(key: &PublicKey) -> NodeHash {
    let hash = Sha256::new()
        .chain_update([0])
        .chain_update(EPOCH_LEAF_LABEL)
        .chain_update([0])
        .chain_update(key.to_bytes());
    NodeHash(hash.finalize().into())
}

/// All leaves of a pairing, 1 to 65,536.
pub struct EpochTree {
    tree: Tree,
    edge: Edge,
}

impl EpochTree {
    /// Of a pairing's keys: derives each of them, about 40 us a key.
    pub fn of(pairing: &Pairing) -> Self {
        let count = pairing.schedule().count;
        Self::of_leaves((0..count).map(|epoch| leaf(pairing.key_pair(epoch).public())))
    }

    /// Of leaves that [`Self::leaves`] returned: 32 bytes each. None if there are none, too many, or
    /// a part of one.
    pub fn from_bytes(leaves: &[u8]) -> Option<Self> {
        let (leaves, rest) = leaves.as_chunks::<HASH_BYTES>();
        let fits = rest.is_empty() && (1..=MAX_EPOCHS).contains(&(leaves.len() as u64));
        fits.then(|| Self::of_leaves(leaves.iter().map(|leaf| NodeHash(*leaf))))
    }

    fn of_leaves(leaves: impl Iterator<Item = NodeHash>) -> Self {
        let mut tree = Tree::default();
        leaves.for_each(|leaf| tree.push(leaf));
        let edge = Edge::new(tree.size(), &tree).expect("all nodes are here");
        Self { tree, edge }
    }

    /// Whether the keys of the epochs below `end` are the same in both.
    pub fn agrees_below(&self, other: &Self, end: Epoch) -> bool {
        (0..end.min(self.count()))
            .all(|epoch| self.tree.node(0, epoch) == other.tree.node(0, epoch))
    }

    /// The leaves, 32 bytes each.
    pub fn leaves(&self) -> Vec<u8> {
        let leaf = |epoch| self.tree.node(0, epoch).expect("all leaves are here").0;
        (0..self.count()).flat_map(leaf).collect()
    }

    /// Number of leaves.
    pub fn count(&self) -> u64 {
        self.tree.size()
    }

    /// The root.
    pub fn root(&self) -> NodeHash {
        self.edge.root()
    }

    /// That the key of an epoch is in the tree: at most 16 nodes. None if the tree has no such epoch.
    pub fn proof(&self, epoch: Epoch) -> Option<InclusionProof> {
        InclusionProof::new(epoch, &self.edge, &self.tree)
    }
}

/// Whether `key` is that of `epoch` in the tree of `count` leaves with this root. Epoch, count and
/// root must come from a pinned statement and a clock, never from the document that has the key.
pub fn verify(
    proof: &InclusionProof,
    key: &PublicKey,
    epoch: Epoch,
    count: u64,
    root: NodeHash,
) -> Result<(), ProofError> {
    proof.verify(epoch, leaf(key), count, root)
}
