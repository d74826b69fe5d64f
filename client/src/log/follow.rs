//! The tree in the wallet grows up to the newest checkpoint. Because it only grows, this is the proof
//! that the relay has taken nothing back; where it does not fit, there is evidence.

use futures_util::{StreamExt, TryStreamExt, stream};
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::evidence::SignedProof;
use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::log::tile::{Content, TILE_WIDTH, Tile};
use tocyn_protocol::log::tree::{Edge, Nodes, Tree};

use super::files::{LogFiles, TileSource};
use super::{LogError, hold_note, hold_receipt, nodes};
use crate::evidence::{Fault, to_hex};
use crate::wallet::{CheckedLog, Wallet, WalletError};

/// Tiles that are asked for at once.
const AT_ONCE: usize = 8;

/// How far the log was followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// As it was before; None the first time.
    pub before: Option<CheckedLog>,
    /// Messages that were shown now: fewer than before only where a copy lags behind.
    pub size: u64,
}

/// Fetches the newest checkpoint and the hashes up to it, and checks that the log has only grown.
pub async fn follow(
    wallet: &Wallet,
    files: &LogFiles,
    key: &VerifierKey,
    now: u64,
) -> Result<Followed, LogError> {
    let note = files.checkpoint().await?;
    let shown = Checkpoint::open(&note, key)
        .map_err(|error| LogError::Checkpoint { url: files.url().to_string(), error })?;
    let before = wallet.checked_log(key).await?;
    if let Some(known) = before.as_ref().filter(|known| known.size >= shown.size) {
        has_begun(wallet, files, key, known, shown, &note).await?;
    }
    // A copy lags behind, so what it lacks was not late at the relay.
    let asked_at = match files.is_mirror() {
        true => before.as_ref().map_or(0, |before| before.synced_at),
        false => now,
    };
    let mut tree = wallet.tree(key).await?;
    if shown.size > tree.size() || before.is_none() {
        let old_size = tree.size();
        grow(&mut tree, files, shown.size).await?;
        let edge = Edge::new(shown.size, &tree).ok_or(LogError::Tiles(files.url().to_string()))?;
        if edge.root() != shown.root {
            return Err(diverged(wallet, files, key, before, shown, &note).await?);
        }
        wallet.keep_tree(key, old_size, &tree, &note, asked_at).await?;
    } else {
        wallet.asked(key, asked_at).await?;
    }
    Ok(Followed { before, size: shown.size })
}

/// Holds everything that this wallet was told of the log against its tree. Gives what does not fit.
pub async fn hold_claims(
    wallet: &Wallet,
    files: &LogFiles,
    key: &VerifierKey,
) -> Result<Vec<LogError>, LogError> {
    let Some(log) = wallet.checked_log(key).await? else { return Ok(Vec::new()) };
    let mut faults = Vec::new();
    for receipt in wallet.receipts(key).await? {
        let seq = receipt.receipt.seq;
        match hold_receipt(wallet, key, &receipt).await {
            // A copy may lag behind what the relay has acknowledged.
            Ok(false) if files.is_mirror() => {}
            Ok(false) => {
                let proof: SignedProof = receipt.proof.parse().map_err(WalletError::from)?;
                if wallet.tell_receipt(key, seq).await? {
                    faults.push(went_back(wallet, key, &proof.checkpoint, &log).await);
                }
            }
            held => {
                wallet.drop_receipt(key, seq).await?;
                faults.extend(fault_only(held)?);
            }
        }
    }
    for claim in wallet.claims(key).await? {
        match hold_note(wallet, key, &claim.note).await {
            // Whoever cites a checkpoint does so in a message that comes after it, so the log that
            // has the message should be longer.
            Ok(false) => {
                if wallet.tell_claim(&claim).await? {
                    faults.push(went_back(wallet, key, &claim.note, &log).await);
                }
            }
            held => {
                wallet.drop_claim(&claim).await?;
                faults.extend(fault_only(held)?);
            }
        }
    }
    Ok(faults)
}

async fn went_back(wallet: &Wallet, key: &VerifierKey, before: &str, now: &CheckedLog) -> LogError {
    let (before, after) = (before.to_owned(), now.checkpoint.clone());
    LogError::fault(wallet, key, Fault::RolledBack { before, after }).await
}

/// The fault, if it is one; what else failed is an error.
fn fault_only(held: Result<bool, LogError>) -> Result<Option<LogError>, LogError> {
    match held {
        Ok(_) => Ok(None),
        Err(fault @ LogError::Fault { .. }) => Ok(Some(fault)),
        Err(error) => Err(error),
    }
}

/// A checkpoint that is not longer than what was seen: of the same log, or evidence.
async fn has_begun(
    wallet: &Wallet,
    files: &LogFiles,
    key: &VerifierKey,
    known: &CheckedLog,
    shown: Checkpoint,
    note: &str,
) -> Result<(), LogError> {
    hold_note(wallet, key, note).await?;
    if shown.size < known.size && !files.is_mirror() {
        let (before, after) = (known.checkpoint.clone(), note.to_owned());
        return Err(LogError::fault(wallet, key, Fault::RolledBack { before, after }).await);
    }
    Ok(())
}

/// Adds the leaves up to `size`.
pub(crate) async fn grow(tree: &mut Tree, files: &LogFiles, size: u64) -> Result<(), LogError> {
    let first = tree.size() / TILE_WIDTH;
    let tiles = (first..size.div_ceil(TILE_WIDTH))
        .filter_map(|index| Tile::in_tree(Content::Hashes(0), index, size));
    let mut tiles = stream::iter(tiles)
        .map(|tile| async move { files.hashes(tile).await.map(|hashes| (tile, hashes)) })
        .buffered(AT_ONCE);
    while let Some((tile, hashes)) = tiles.try_next().await? {
        for (index, leaf) in (tile.start()..).zip(hashes) {
            match tree.node(0, index) {
                None if index == tree.size() => tree.push(leaf),
                // Where it differs, the root tells.
                _ => {}
            }
        }
    }
    Ok(())
}

/// What it means that the tree does not lead to the checkpoint.
async fn diverged(
    wallet: &Wallet,
    files: &LogFiles,
    key: &VerifierKey,
    before: Option<CheckedLog>,
    shown: Checkpoint,
    note: &str,
) -> Result<LogError, LogError> {
    let no_use = LogError::Tiles(files.url().to_string());
    let Some(before) = before else { return Ok(no_use) };
    let theirs = nodes::prefix(files, before.size, shown.size).await?;
    let Some((root, proof)) = theirs else { return Ok(no_use) };
    let known = Checkpoint::open(&before.checkpoint, key);
    let differs = known.is_ok_and(|known| known.root != root);
    let holds = proof.verify(before.size, root, shown.size, shown.root).is_ok();
    if !(differs && holds) {
        return Ok(no_use);
    }
    let fault = Fault::Forked {
        first: before.checkpoint,
        second: note.to_owned(),
        root_in_second: hex::encode(root.0),
        consistency: to_hex(&proof.0),
    };
    Ok(LogError::fault(wallet, key, fault).await)
}
