//! The log that need not be trusted: a Merkle tree over all messages, signed as it grows.
//!
//! The formats are those of C2SP, so that other programs can check them, and any file server or
//! mirror can hand them out.
//! | step | module |
//! |---|---|
//! | hashes of leaves and nodes; the end of a growing tree (RFC 6962) | [`tree`] |
//! | that a leaf is in a tree, that a tree is the beginning of another | [`proof`] |
//! | nodes in files of 256 (c2sp.org/tlog-tiles) | [`tile`] |
//! | text with a signature (c2sp.org/signed-note) | [`note`] |
//! | size and root of the tree, signed (c2sp.org/tlog-checkpoint) | [`checkpoint`] |
//! | a leaf's proof together with the checkpoint (c2sp.org/tlog-proof) | [`evidence`] |

pub mod checkpoint;
pub mod evidence;
pub mod note;
pub mod proof;
pub mod tile;
pub mod tree;
