//! The relay's log, as far as this wallet has been shown it: it has one key, never gets shorter, and
//! keeps what is in it. What does not fit together is kept as evidence.
//!
//! | step | module |
//! |---|---|
//! | checkpoint, tiles and bundles, from the relay or from a mirror | [`files`] |
//! | roots and proofs from tiles | [`nodes`] |
//! | the tree grows up to the newest checkpoint, or the relay is at fault | [`follow`] |
//! | for those who only post: that the log has grown, without telling the relay from where | [`growth`] |

pub mod files;
pub mod follow;
pub mod growth;
pub mod nodes;

use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::evidence::{EvidenceError, SignedProof};
use tocyn_protocol::log::note::{NoteError, VerifierKey};
use tocyn_protocol::relay::{ProvenReceipt, RelayInfo};
use tocyn_protocol::statement::Commitment;
use tocyn_protocol::statement::chain::{Chain, ChainError};

use self::files::LogFiles;
use crate::evidence::{Evidence, Fault, NoEvidence, Verdict, to_hex};
use crate::transport::HttpError;
use crate::wallet::{Wallet, WalletError};

/// The relay does not keep to what it signed, or its log cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A receipt, and no proof that holds.
    #[error("it does not prove that the message is in its log: {0}")]
    Unproven(#[from] EvidenceError),
    /// A fault of which the wallet keeps evidence.
    #[error("{verdict}. The evidence is in {file}; check it with `tocyn evidence verify`")]
    Fault {
        /// What is wrong.
        verdict: Verdict,
        /// What shows it.
        evidence: Box<Evidence>,
        /// Where the wallet keeps it.
        file: String,
    },
    /// A checkpoint that is none.
    #[error("{url} shows a checkpoint that cannot be used: {error}")]
    Checkpoint {
        /// Who.
        url: String,
        /// What is wrong.
        error: NoteError,
    },
    /// Tiles, and a checkpoint that they do not lead to. Nothing is signed that would show whose
    /// fault it is.
    #[error(
        "the hashes that {0} hands out do not lead to the checkpoint that the relay has signed: \
         they were changed, or are from another time. Try again; if it stays so, read from \
         elsewhere, and tell the operator"
    )]
    Tiles(String),
    /// A mirror with other bytes than the log has.
    #[error(
        "the copy at {url} has another message {seq} than the log: it is damaged, or lies. What came \
         before it is good; read on from the relay, or from another copy"
    )]
    BadCopy {
        /// Where.
        url: String,
        /// Which one.
        seq: u64,
    },
    /// Statements of keys that are none.
    #[error("its statements of keys cannot be used: {0}")]
    Statements(#[from] ChainError),
    /// A copy whose statements of keys are none.
    #[error(
        "the copy at {url} shows statements of keys that the relay has not signed ({error}): it is \
         damaged, or lies. That says nothing about the relay"
    )]
    CopyStatements {
        /// Where.
        url: String,
        /// What is wrong.
        error: ChainError,
    },
    /// More than can be.
    #[error(
        "{url} has signed {more} messages more than this wallet knows of, which is more than is \
         taken at once: it lies, or is used by more people than this program is made for"
    )]
    TooLong {
        /// Who.
        url: String,
        /// Messages.
        more: u64,
    },
    /// What is to show a fault does not show it.
    #[error("what the relay, or a mirror, hands out contradicts itself: {0}")]
    NoEvidence(#[from] NoEvidence),
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The wallet failed.
    #[error(transparent)]
    Wallet(#[from] WalletError),
}

impl LogError {
    /// Keeps the evidence, and says so.
    pub(crate) async fn fault(wallet: &Wallet, key: &VerifierKey, fault: Fault) -> Self {
        let evidence = Evidence::new(key, fault);
        let verdict = match evidence.verify() {
            Ok(verdict) => verdict,
            Err(error) => return error.into(),
        };
        match wallet.keep_evidence(&evidence, &verdict).await {
            Ok(file) => Self::Fault { verdict, evidence: Box::new(evidence), file },
            Err(error) => error.into(),
        }
    }
}

/// Notes that a checkpoint names a statement of keys. Two statements with one serial are a fault, and
/// so is a longer log that names an earlier one.
pub(crate) async fn check_names(
    wallet: &Wallet,
    key: &VerifierKey,
    shown: &Checkpoint,
    note: &str,
) -> Result<(), LogError> {
    check_name(wallet, key, shown.keys, Some(shown.size), note).await
}

/// Notes the statements of keys that were shown.
pub(crate) async fn check_chain(
    wallet: &Wallet,
    key: &VerifierKey,
    chain: &Chain,
) -> Result<(), LogError> {
    for statement in chain.statements() {
        check_name(wallet, key, statement.commitment(), None, statement.note()).await?;
    }
    Ok(())
}

async fn check_name(
    wallet: &Wallet,
    key: &VerifierKey,
    commitment: Commitment,
    size: Option<u64>,
    note: &str,
) -> Result<(), LogError> {
    match wallet.name(key, commitment, size, note).await? {
        None => Ok(()),
        Some(first) => {
            let fault = Fault::Keys { first, second: note.to_owned() };
            Err(LogError::fault(wallet, key, fault).await)
        }
    }
}

/// Notes the statements of keys in a document, of the relay or of a copy.
pub(crate) async fn check_statements(
    wallet: &Wallet,
    key: &VerifierKey,
    info: &RelayInfo,
) -> Result<(), LogError> {
    let chain = Chain::open(&info.statements, key)?;
    check_chain(wallet, key, &chain).await
}

/// Compares what this wallet was shown with what a relay, or a copy of its log, hands out: statements of
/// keys, and all checkpoints and receipts that were not found in the log yet. Fetches all hashes of
/// the log, so that what is asked for does not tell what is looked for. Returns the faults.
pub async fn compare(
    wallet: &Wallet,
    files: &LogFiles,
    key: &VerifierKey,
    now: u64,
) -> Result<Vec<LogError>, LogError> {
    let mut faults = Vec::new();
    match check_statements(wallet, key, &files.info().await?).await {
        Err(fault @ LogError::Fault { .. }) => faults.push(fault),
        checked => checked?,
    }
    let (shown, note) = follow::newest(files, key).await?;
    match check_names(wallet, key, &shown, &note).await {
        Err(fault @ LogError::Fault { .. }) => faults.push(fault),
        checked => checked?,
    }
    if !wallet.receipts(key).await?.is_empty() || wallet.checked_log(key).await?.is_some() {
        match follow::follow(wallet, files, key, true, now).await {
            Err(fault @ LogError::Fault { .. }) => faults.push(fault),
            followed => drop(followed?),
        }
        faults.extend(follow::hold_claims(wallet, files, key).await?);
    }
    Ok(faults)
}

/// Checks the proof of a receipt, and that its checkpoint does not contradict what the wallet was
/// shown before, nor the tree, where the wallet follows the log. Asks nobody.
pub async fn check_receipt(
    wallet: &Wallet,
    key: &VerifierKey,
    proven: &ProvenReceipt,
) -> Result<(), LogError> {
    let shown = proven.verify(key)?;
    let note = proven.proof.parse::<SignedProof>().map_err(NoteError::from);
    let note = note.map_err(EvidenceError::from)?.checkpoint;
    let (_, bare) = Checkpoint::open_bare(&note, key).map_err(EvidenceError::from)?;
    check_names(wallet, key, &shown, &bare).await?;
    if !hold_receipt(wallet, key, proven).await? {
        // The tree is too short yet: it is checked against it later.
        wallet.add_claim(key, &bare).await?;
    }
    check_order(wallet, key, &shown, &bare).await
}

/// Checks a checkpoint against the newest one that this wallet was shown: the log is not shorter, has
/// the same root at the same size. Keeps it.
pub(crate) async fn check_order(
    wallet: &Wallet,
    key: &VerifierKey,
    shown: &Checkpoint,
    note: &str,
) -> Result<(), LogError> {
    use std::cmp::Ordering::{Equal, Greater};
    let Some(known_note) = wallet.checkpoint(key).await? else {
        return Ok(wallet.keep_checkpoint(key, note).await?);
    };
    let known = Checkpoint::open(&known_note, key).map_err(EvidenceError::from)?;
    let fault = match known.size.cmp(&shown.size) {
        Greater => Fault::RolledBack { before: known_note, after: note.to_owned() },
        Equal if known.root != shown.root => {
            let (second, root_in_second) = (note.to_owned(), hex::encode(shown.root.0));
            Fault::Forked { first: known_note, second, root_in_second, consistency: Vec::new() }
        }
        // A relay that has not heard of the newest statement yet; at one size that is no fault.
        Equal if shown.keys.serial < known.keys.serial => return Ok(()),
        // That a longer log begins like the one before is checked by `growth`.
        _ => return Ok(wallet.keep_checkpoint(key, note).await?),
    };
    Err(LogError::fault(wallet, key, fault).await)
}

/// Holds a receipt against the tree. False if that is too short yet to have its checkpoint.
pub(crate) async fn hold_receipt(
    wallet: &Wallet,
    key: &VerifierKey,
    proven: &ProvenReceipt,
) -> Result<bool, LogError> {
    let proof = proven.proof.parse::<SignedProof>().map_err(NoteError::from);
    let proof = proof.map_err(EvidenceError::from)?;
    let Some(log) = wallet.checked_log(key).await?.filter(|log| proof.index < log.size) else {
        return Ok(false);
    };
    let leaf = nodes::leaf(&wallet.tiles(key), proof.index, log.size).await?;
    if let Some((leaf, inclusion)) = leaf
        && leaf != proven.receipt.message_id.into()
    {
        let fault = Fault::Unpublished {
            receipt: proven.proof.clone(),
            message_id: proven.receipt.message_id,
            second: log.checkpoint,
            instead: leaf.into(),
            inclusion: to_hex(&inclusion.0),
        };
        return Err(LogError::fault(wallet, key, fault).await);
    }
    hold_note(wallet, key, &proof.checkpoint).await
}

/// Holds a signed checkpoint against the tree. False if that is too short yet.
pub(crate) async fn hold_note(
    wallet: &Wallet,
    key: &VerifierKey,
    note: &str,
) -> Result<bool, LogError> {
    let claimed = Checkpoint::open(note, key).map_err(EvidenceError::from)?;
    check_names(wallet, key, &claimed, note).await?;
    let Some(log) = wallet.checked_log(key).await?.filter(|log| claimed.size <= log.size) else {
        return Ok(false);
    };
    match nodes::prefix(&wallet.tiles(key), claimed.size, log.size).await? {
        Some((root, proof)) if root != claimed.root => {
            let fault = Fault::Forked {
                first: note.to_owned(),
                second: log.checkpoint,
                root_in_second: hex::encode(root.0),
                consistency: to_hex(&proof.0),
            };
            Err(LogError::fault(wallet, key, fault).await)
        }
        _ => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use getrandom::SysRng;
    use rand_core::UnwrapErr;
    use tocyn_protocol::log::note::LogKey;
    use tocyn_protocol::log::proof::InclusionProof;
    use tocyn_protocol::log::tree::{Edge, NodeHash, Tree};
    use tocyn_protocol::relay::{MessageId, PostReceipt};
    use tocyn_protocol::schedule::Schedule;
    use tocyn_protocol::statement::{Statement, StatementHash};

    fn is_fault(result: &Result<(), LogError>, kind: &str) -> bool {
        matches!(result, Err(LogError::Fault { evidence, .. }) if evidence.kind() == kind)
    }

    /// The receipt of the last message of a log.
    fn receipt(texts: &[&str], key: &LogKey) -> ProvenReceipt {
        let mut tree = Tree::default();
        texts.iter().for_each(|text| tree.push(MessageId::of(text.as_bytes()).into()));
        let (size, index) = (tree.size(), tree.size() - 1);
        let edge = Edge::new(size, &tree).unwrap();
        let inclusion = InclusionProof::new(index, &edge, &tree).unwrap();
        let keys = Commitment { serial: 0, hash: StatementHash([7; 32]) };
        let checkpoint = Checkpoint { size, root: edge.root(), keys }.sign(key);
        let message_id = MessageId::of(texts[index as usize].as_bytes());
        let receipt = PostReceipt { seq: size, message_id, received_at: 1 };
        let proof = SignedProof { index, inclusion, checkpoint }.to_string();
        ProvenReceipt { receipt, proof }
    }

    #[tokio::test]
    async fn a_log_that_went_back_or_forked_is_found_by_what_the_wallet_was_shown() {
        let dir = tempfile::tempdir().unwrap();
        let wallet = Wallet::open(dir.path()).await.unwrap();
        let rng = &mut UnwrapErr(SysRng);
        let (key, other) = (LogKey::generate("relay", rng), LogKey::generate("relay", rng));
        let schedule = Schedule { genesis: 0, epoch_seconds: 100, count: 1 };
        let statement = Statement {
            serial: 0,
            previous: None,
            origin_name: "relay".to_owned(),
            issuer_name: "issuer".to_owned(),
            issuer_address: None,
            addresses: Vec::new(),
            schedule,
            root: NodeHash([1; 32]),
        };
        let (verifier, statement) = (key.verifier(), statement.sign(&key));
        let (pinned_at, cell_bytes, offer) = (1, 2048, None);
        let pin = crate::wallet::Pin { key: verifier, statement, pinned_at, cell_bytes, offer };
        wallet.pin_first(&pin).await.unwrap();

        let check =
            async |proven: &ProvenReceipt| check_receipt(&wallet, &key.verifier(), proven).await;
        check(&receipt(&["a", "b"], &key)).await.unwrap();
        check(&receipt(&["a", "b", "c"], &key)).await.unwrap();
        check(&receipt(&["a", "b", "c"], &key)).await.unwrap();
        let back = check(&receipt(&["a", "b"], &key)).await;
        assert!(is_fault(&back, "rolled-back"), "{back:?}");
        let forked = check(&receipt(&["a", "x", "c"], &key)).await;
        assert!(is_fault(&forked, "forked"), "{forked:?}");
        let forged = check(&receipt(&["a", "b", "c", "d"], &other)).await;
        assert!(matches!(forged, Err(LogError::Unproven(_))), "{forged:?}");
        let mut moved = receipt(&["a", "b", "c", "d"], &key);
        moved.receipt.seq = 3;
        assert!(matches!(check(&moved).await, Err(LogError::Unproven(_))));
        // What it was shown stays what it was.
        check(&receipt(&["a", "b", "c"], &key)).await.unwrap();
    }
}
