//! The tree in the wallet grows up to the newest checkpoint. Because it only grows, this is the proof
//! that the relay has taken nothing back; where it does not fit, there is evidence.

use std::collections::HashMap;

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::evidence::SignedProof;
use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::log::tile::{Content, TILE_WIDTH, Tile};
use tocyn_protocol::log::tree::{Edge, NodeHash, Tree};

use super::files::{LogFiles, TileSource};
use super::{LogError, check_names, hold_note, hold_receipt, nodes};
use crate::evidence::{Fault, to_hex};
use crate::transport::HttpError;
use crate::wallet::{CheckedLog, Wallet, WalletError};

/// The most messages by which a log may grow between two looks: 2 GiB of hashes. A relay could sign
/// any number, and hand out hashes for ever.
const MAX_GROWTH: u64 = 1 << 26;
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

/// Fetches the newest checkpoint and the hashes up to it, and checks that the log has only grown. With
/// `from_start` all hashes are fetched again, so that what is asked for does not tell who asks.
pub async fn follow(
    wallet: &Wallet,
    files: &LogFiles,
    key: &VerifierKey,
    from_start: bool,
    now: u64,
) -> Result<Followed, LogError> {
    let (shown, note) = newest(files, key).await?;
    check_names(wallet, key, &shown, &note).await?;
    // Whatever comes of this, it was signed, and must fit to what is signed later.
    wallet.add_claim(key, &note).await?;
    let before = wallet.checked_log(key).await?;
    if let Some(known) = before.as_ref().filter(|known| known.size >= shown.size) {
        has_begun(wallet, files, key, known, shown, &note).await?;
    }
    // A copy lags behind, so what it lacks was not late at the relay.
    let asked_at = match files.is_mirror() {
        true => before.as_ref().map_or(0, |before| before.synced_at),
        false => now,
    };
    let mut growing = wallet.grow(key).await?;
    let old_size = growing.tree.size();
    if from_start || shown.size > old_size || before.is_none() {
        check_growth(old_size, shown.size, files)?;
        let first = if from_start { 0 } else { old_size };
        let mut tiles = leaf_tiles(files, first, shown.size);
        while let Some((tile, hashes)) = tiles.try_next().await? {
            add(&mut growing.tree, tile, hashes);
            growing.put_away_if_heavy().await?;
        }
        drop(tiles);
    }
    if shown.size < growing.tree.size() {
        return Ok(Followed { before, size: shown.size });
    }
    let edge = Edge::new(shown.size, &growing.tree);
    if edge.is_none_or(|edge| edge.root() != shown.root) {
        drop(growing);
        return Err(diverged(wallet, files, key, before, shown, &note).await?);
    }
    growing.keep(&note, asked_at).await?;
    Ok(Followed { before, size: shown.size })
}

/// The newest checkpoint, with nothing beside it that could mark whom it is shown to.
pub(crate) async fn newest(
    files: &LogFiles,
    key: &VerifierKey,
) -> Result<(Checkpoint, String), LogError> {
    let note = files.checkpoint().await?;
    Checkpoint::open_bare(&note, key)
        .map_err(|error| LogError::Checkpoint { url: files.url().to_string(), error })
}

/// Refuses to fetch hashes without an end.
pub(crate) fn check_growth(old: u64, new: u64, files: &LogFiles) -> Result<(), LogError> {
    match new.saturating_sub(old) {
        more if more > MAX_GROWTH => Err(LogError::TooLong { url: files.url().to_string(), more }),
        _ => Ok(()),
    }
}

/// Holds everything that this wallet was told of the log against its tree. Gives what does not fit.
pub async fn hold_claims(
    wallet: &Wallet,
    files: &LogFiles,
    key: &VerifierKey,
) -> Result<Vec<LogError>, LogError> {
    let Some(log) = wallet.checked_log(key).await? else { return Ok(Vec::new()) };
    let mut faults = Vec::new();
    for proven in wallet.receipts(key).await? {
        match hold_receipt(wallet, key, &proven).await {
            // A copy may lag behind what the relay has acknowledged.
            Ok(false) if files.is_mirror() => {}
            Ok(false) => {
                let proof: SignedProof = proven.proof.parse().map_err(WalletError::from)?;
                if wallet.tell_receipt(key, &proven.receipt).await? {
                    faults.push(went_back(wallet, key, &proof.checkpoint, &log).await);
                }
            }
            held => {
                faults.extend(fault_only(held)?);
                wallet.drop_receipt(key, &proven.receipt).await?;
            }
        }
    }
    let mut signed = HashMap::from([(text(&log.checkpoint), log.checkpoint.clone())]);
    for claim in wallet.claims(key).await? {
        if let Some(other) = signed.insert(text(&claim.note), claim.note.clone())
            && other != claim.note
        {
            let fault = Fault::Marked { first: other, second: claim.note.clone() };
            faults.push(LogError::fault(wallet, key, fault).await);
        }
        match hold_note(wallet, key, &claim.note).await {
            Ok(false) if files.is_mirror() => {}
            // Whoever cites a checkpoint does so in a message that comes after it, so the log that
            // has the message should be longer.
            Ok(false) => {
                if wallet.tell_claim(&claim).await? {
                    faults.push(went_back(wallet, key, &claim.note, &log).await);
                }
            }
            held => {
                faults.extend(fault_only(held)?);
                wallet.drop_claim(&claim).await?;
            }
        }
    }
    Ok(faults)
}

/// A note without its signature.
fn text(note: &str) -> String {
    note.split_once("\n\n").map_or(note, |(text, _)| text).to_owned()
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

/// The tiles of leaves from the one that has the leaf `from` on, in their order.
pub(crate) fn leaf_tiles(
    files: &LogFiles,
    from: u64,
    size: u64,
) -> impl Stream<Item = Result<(Tile, Vec<NodeHash>), HttpError>> + Unpin {
    let tiles = (from / TILE_WIDTH..size.div_ceil(TILE_WIDTH))
        .filter_map(move |index| Tile::in_tree(Content::Hashes(0), index, size));
    stream::iter(tiles)
        .map(move |tile| async move { files.hashes(tile).await.map(|hashes| (tile, hashes)) })
        .buffered(AT_ONCE)
}

/// Adds the leaves of a tile that come next. Where one differs from what is known, the root tells.
pub(crate) fn add(tree: &mut Tree, tile: Tile, hashes: Vec<NodeHash>) {
    for (index, leaf) in (tile.start()..).zip(hashes) {
        if index == tree.size() {
            tree.push(leaf);
        }
    }
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
    match before {
        None => Ok(LogError::Tiles(files.url().to_string())),
        Some(before) => other_than(wallet, files, key, &before.checkpoint, shown, note).await,
    }
}

/// What it means that a log does not begin like one that was shown before: a fault, if its tiles lead
/// to its checkpoint.
pub(crate) async fn other_than(
    wallet: &Wallet,
    files: &LogFiles,
    key: &VerifierKey,
    before: &str,
    shown: Checkpoint,
    note: &str,
) -> Result<LogError, LogError> {
    let no_use = LogError::Tiles(files.url().to_string());
    let Ok(known) = Checkpoint::open(before, key) else { return Ok(no_use) };
    let theirs = nodes::prefix(files, known.size, shown.size).await?;
    let Some((root, proof)) = theirs else { return Ok(no_use) };
    let holds = proof.verify(known.size, root, shown.size, shown.root).is_ok();
    if known.root == root || !holds {
        return Ok(no_use);
    }
    let fault = Fault::Forked {
        first: before.to_owned(),
        second: note.to_owned(),
        root_in_second: hex::encode(root.0),
        consistency: to_hex(&proof.0),
    };
    Ok(LogError::fault(wallet, key, fault).await)
}
