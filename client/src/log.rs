//! The relay's log, as far as this wallet has been shown it: it has one key, never gets shorter, and
//! keeps what is in it. What does not fit together is kept as evidence.
//!
//! | step | module |
//! |---|---|
//! | checkpoint, tiles and bundles, from the relay or from a mirror | [`files`] |
//! | roots and proofs from tiles | [`nodes`] |
//! | the tree grows up to the newest checkpoint, or the relay is at fault | [`follow`] |

pub mod files;
pub mod follow;
pub mod nodes;

use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::evidence::{EvidenceError, SignedProof};
use tocyn_protocol::log::note::{NoteError, VerifierKey};
use tocyn_protocol::relay::ProvenReceipt;

use crate::evidence::{Evidence, Fault, NoEvidence, Verdict, to_hex};
use crate::keys::Pair;
use crate::transport::HttpError;
use crate::wallet::{Wallet, WalletError};

/// The relay does not keep to what it signed, or its log cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Another key than before.
    #[error(
        "the relay's log has the key {shown} now, and had {known} when this wallet first met it. \
         That is another log, or another relay: ask its operator before you post there"
    )]
    OtherKey {
        /// As it was first.
        known: String,
        /// As it is now.
        shown: String,
    },
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

/// Refuses a key other than the one that this wallet knows, before anything is sent.
pub async fn check_key(wallet: &Wallet, pair: &Pair, shown: &VerifierKey) -> Result<(), LogError> {
    let known = wallet.known_log(pair, shown).await?.log_key;
    match known == shown.to_string() {
        true => Ok(()),
        false => Err(LogError::OtherKey { known, shown: shown.to_string() }),
    }
}

/// Checks the proof of a receipt, and that its checkpoint does not contradict the newest one that
/// the wallet knows, nor the tree, where the wallet follows the log.
pub async fn check_receipt(
    wallet: &Wallet,
    pair: &Pair,
    key: &VerifierKey,
    proven: &ProvenReceipt,
) -> Result<(), LogError> {
    let shown = proven.verify(key)?;
    let note = proven.proof.parse::<SignedProof>().map_err(NoteError::from);
    let note = note.map_err(EvidenceError::from)?.checkpoint;
    if !hold_receipt(wallet, key, proven).await? && wallet.checked_log(key).await?.is_some() {
        // The tree is too short yet: it is held against it later.
        let (_, bare) = Checkpoint::open_bare(&note, key).map_err(EvidenceError::from)?;
        wallet.add_claim(key, &bare).await?;
    }
    let Some(known_note) = wallet.known_log(pair, key).await?.checkpoint else {
        return Ok(wallet.keep_checkpoint(pair, &note).await?);
    };
    let known = Checkpoint::open(&known_note, key).map_err(EvidenceError::from)?;
    let fault = match known.size.cmp(&shown.size) {
        std::cmp::Ordering::Greater => Fault::RolledBack { before: known_note, after: note },
        std::cmp::Ordering::Equal if known.root != shown.root => {
            let root_in_second = hex::encode(shown.root.0);
            let consistency = Vec::new();
            Fault::Forked { first: known_note, second: note, root_in_second, consistency }
        }
        _ => return Ok(wallet.keep_checkpoint(pair, &note).await?),
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
    use tocyn_protocol::log::tree::{Edge, Tree};
    use tocyn_protocol::relay::{MessageId, PostReceipt};

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
        let checkpoint = Checkpoint { size, root: edge.root() }.sign(key);
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
        let [issuer_name, relay_name, relay_url] =
            ["issuer", "relay", "http://relay"].map(str::to_owned);
        let pair = Pair { issuer_name, relay_name, relay_url };
        check_key(&wallet, &pair, &key.verifier()).await.unwrap();
        let changed = check_key(&wallet, &pair, &other.verifier()).await;
        assert!(matches!(changed, Err(LogError::OtherKey { .. })), "{changed:?}");
        check_key(&wallet, &pair, &key.verifier()).await.unwrap();

        let check = async |proven: &ProvenReceipt| {
            check_receipt(&wallet, &pair, &key.verifier(), proven).await
        };
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
