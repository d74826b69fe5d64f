//! Proofs about trees (RFC 6962 section 2.1; checked as in RFC 9162 sections 2.1.3.2 and 2.1.4.2).

use super::tree::{Edge, NodeHash, Nodes};

/// That a leaf is in a tree: the siblings on its way to the root, the lowest first. At most 64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof(pub Vec<NodeHash>);

/// That a tree is the beginning of another one. At most 65 nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistencyProof(pub Vec<NodeHash>);

/// A proof does not prove what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proof does not lead to the signed root")]
pub struct ProofError;

impl InclusionProof {
    /// Of the leaf `index`. None if there is no such leaf, or `nodes` lacks a sibling.
    pub fn new(index: u64, edge: &Edge, nodes: &impl Nodes) -> Option<Self> {
        if index >= edge.size() {
            return None;
        }
        let siblings =
            (0..edge.height()).filter_map(|level| edge.node(level, (index >> level) ^ 1, nodes));
        Some(Self(siblings.collect::<Option<_>>()?))
    }

    /// Whether `leaf` is the leaf `index` of the tree of `size` leaves with this root.
    pub fn verify(
        &self,
        index: u64,
        leaf: NodeHash,
        size: u64,
        root: NodeHash,
    ) -> Result<(), ProofError> {
        if index >= size {
            return Err(ProofError);
        }
        let (mut index, mut last) = (index, size - 1);
        let mut hash = leaf;
        for sibling in &self.0 {
            if last == 0 {
                return Err(ProofError);
            }
            if index & 1 == 1 || index == last {
                hash = NodeHash::above(*sibling, hash);
                // A node without a sibling went up as it is.
                let up = index.trailing_zeros();
                (index, last) = (index >> up, last >> up);
            } else {
                hash = NodeHash::above(hash, *sibling);
            }
            (index, last) = (index >> 1, last >> 1);
        }
        if last == 0 && hash == root { Ok(()) } else { Err(ProofError) }
    }
}

impl ConsistencyProof {
    /// That the first `old_size` leaves of the tree are what they were. None if the tree is
    /// smaller, or `nodes` lacks a node.
    pub fn new(old_size: u64, edge: &Edge, nodes: &impl Nodes) -> Option<Self> {
        if old_size > edge.size() {
            return None;
        }
        if old_size == 0 || old_size == edge.size() {
            return Some(Self(Vec::new()));
        }
        // The lowest complete node that ends the old tree, then what is beside its way up.
        let start = old_size.trailing_zeros() as u8;
        let mut index = (old_size >> start) - 1;
        let mut proof = Vec::new();
        if index > 0 {
            proof.push(nodes.node(start, index)?);
        }
        for level in start..edge.height() {
            if let Some(sibling) = edge.node(level, index ^ 1, nodes) {
                proof.push(sibling?);
            }
            index >>= 1;
        }
        Some(Self(proof))
    }

    /// Whether the tree with the old size and root is the beginning of the other one.
    pub fn verify(
        &self,
        old_size: u64,
        old_root: NodeHash,
        size: u64,
        root: NodeHash,
    ) -> Result<(), ProofError> {
        let good = |good: bool| if good { Ok(()) } else { Err(ProofError) };
        if old_size == 0 || old_size == size {
            let same = if old_size == 0 { NodeHash::of_empty_tree() } else { root };
            return good(self.0.is_empty() && old_root == same);
        }
        if old_size > size {
            return Err(ProofError);
        }
        let mut proof = self.0.iter().copied();
        let first = match old_size.is_power_of_two() {
            true => old_root,
            false => proof.next().ok_or(ProofError)?,
        };
        let up = old_size.trailing_zeros();
        let (mut index, mut last) = ((old_size - 1) >> up, (size - 1) >> up);
        let (mut old_hash, mut hash) = (first, first);
        for node in proof {
            if last == 0 {
                return Err(ProofError);
            }
            if index & 1 == 1 || index == last {
                (old_hash, hash) = (NodeHash::above(node, old_hash), NodeHash::above(node, hash));
                let up = index.trailing_zeros();
                (index, last) = (index >> up, last >> up);
            } else {
                hash = NodeHash::above(hash, node);
            }
            (index, last) = (index >> 1, last >> 1);
        }
        good(last == 0 && old_hash == old_root && hash == root)
    }
}
