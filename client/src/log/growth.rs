//! That a log has only grown since it was shown last, for those who do not follow it message by
//! message. A consistency proof would have to name the place where they were last, and that place
//! ties their visits together. So what is fetched depends on the log's size alone: the hashes of all
//! its whole bundles of 256 messages, 32 bytes each, and the leaves after these. The wallet keeps the
//! root over the bundles that it has seen, and finds it again in the longer log.
//!
//! A fork inside the last bundle that was seen shows only while that is still the last one; after
//! that, with `tocyn check`, which reads all hashes.

use futures_util::{StreamExt, TryStreamExt, stream};
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::log::tile::{Content, TILE_HEIGHT, TILE_WIDTH, Tile};
use tocyn_protocol::log::tree::{Edge, NodeHash, Nodes};

use super::files::{LogFiles, TileSource};
use super::follow::{check_growth as check_length, other_than};
use super::{LogError, check_names, check_order};
use crate::transport::HttpError;
use crate::wallet::{GrownLog, Wallet};

/// Tiles that are asked for at once.
const AT_ONCE: usize = 8;

/// The hashes of whole bundles, and the leaves after them.
struct Bundles {
    bundles: Vec<NodeHash>,
    leaves: Vec<NodeHash>,
}

impl Bundles {
    async fn fetch(files: &LogFiles, size: u64) -> Result<Self, HttpError> {
        let level = |level, nodes: u64| {
            (0..nodes.div_ceil(TILE_WIDTH))
                .filter_map(move |index| Tile::in_tree(Content::Hashes(level), index, size))
        };
        let bundles = stream::iter(level(1, size / TILE_WIDTH)).map(|tile| files.hashes(tile));
        let bundles: Vec<Vec<NodeHash>> = bundles.buffered(AT_ONCE).try_collect().await?;
        let last = Tile::in_tree(Content::Hashes(0), size / TILE_WIDTH, size);
        let leaves = match last {
            Some(tile) => files.hashes(tile).await?,
            None => Vec::new(),
        };
        Ok(Self { bundles: bundles.concat(), leaves })
    }
}

impl Nodes for Bundles {
    fn node(&self, level: u8, index: u64) -> Option<NodeHash> {
        if level == TILE_HEIGHT {
            return self.bundles.get(usize::try_from(index).ok()?).copied();
        }
        if level == 0 {
            let first = self.bundles.len() as u64 * TILE_WIDTH;
            return self.leaves.get(usize::try_from(index.checked_sub(first)?).ok()?).copied();
        }
        let (left, right) =
            (self.node(level - 1, 2 * index)?, self.node(level - 1, 2 * index + 1)?);
        Some(NodeHash::above(left, right))
    }
}

/// Checks that the log with this checkpoint begins like the one that the wallet was shown last, and
/// keeps the checkpoint. `files` must be a connection for this alone.
pub async fn check_growth(
    wallet: &Wallet,
    files: &LogFiles,
    key: &VerifierKey,
    shown: &Checkpoint,
    note: &str,
) -> Result<(), LogError> {
    check_names(wallet, key, shown, note).await?;
    check_order(wallet, key, shown, note).await?;
    check_length(0, shown.size, files)?;
    let nodes = Bundles::fetch(files, shown.size).await?;
    let root = |size: u64| Edge::new(size, &nodes).map(|edge| edge.root());
    let whole = |size: u64| size / TILE_WIDTH * TILE_WIDTH;
    let no_use = || LogError::Tiles(files.url().to_string());
    if root(shown.size) != Some(shown.root) {
        return Err(no_use());
    }
    if let Some(known) = wallet.grown_log(key).await? {
        let before = Checkpoint::open(&known.checkpoint, key).map_err(|_| no_use())?;
        let differs = |size, root_then: NodeHash| root(size).is_some_and(|now| now != root_then);
        // Its last bundle is not whole: its leaves are here only while that is still the last one.
        let is_in_last_bundle = whole(before.size) == whole(shown.size);
        let forked = is_in_last_bundle && differs(before.size, before.root)
            || differs(whole(before.size), NodeHash(known.bundles));
        if forked {
            return Err(other_than(wallet, files, key, &known.checkpoint, *shown, note).await?);
        }
    }
    let bundles = root(whole(shown.size)).ok_or_else(no_use)?.0;
    let grown = GrownLog { checkpoint: note.to_owned(), bundles };
    Ok(wallet.keep_grown_log(key, &grown).await?)
}
