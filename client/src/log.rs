//! The relay's log, as far as this wallet has been shown it: it has one key, and never gets shorter.

use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::evidence::{EvidenceError, SignedProof};
use tocyn_protocol::log::note::{NoteError, VerifierKey};
use tocyn_protocol::relay::ProvenReceipt;

use crate::keys::Pair;
use crate::wallet::{Wallet, WalletError};

/// The relay does not keep to what it signed.
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
    /// Its log has become shorter.
    #[error(
        "it signed a log of {known} messages before, and signs one of {shown} now: it has lost \
         messages, or hides them. The earlier checkpoint is kept in the wallet"
    )]
    WentBack {
        /// Messages, before.
        known: u64,
        /// Messages, now.
        shown: u64,
    },
    /// Two logs of one length.
    #[error(
        "it has signed two different logs of {size} messages: it shows different ones to different \
         people. The earlier checkpoint is kept in the wallet"
    )]
    Forked {
        /// Messages.
        size: u64,
    },
    /// The wallet failed.
    #[error(transparent)]
    Wallet(#[from] WalletError),
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
/// the wallet knows. That a longer log begins with the shorter one is not checked here.
pub async fn check_receipt(
    wallet: &Wallet,
    pair: &Pair,
    key: &VerifierKey,
    proven: &ProvenReceipt,
) -> Result<(), LogError> {
    let shown = proven.verify(key)?;
    let note =
        proven.proof.parse::<SignedProof>().map_err(|error| EvidenceError::Note(error.into()))?;
    let known = wallet.known_log(pair, key).await?.checkpoint;
    let known = known.map(|known| Checkpoint::open(&known, key)).transpose();
    match known.map_err(|error: NoteError| EvidenceError::Note(error))? {
        Some(known) if known.size > shown.size => {
            Err(LogError::WentBack { known: known.size, shown: shown.size })
        }
        Some(known) if known.size == shown.size && known.root != shown.root => {
            Err(LogError::Forked { size: shown.size })
        }
        _ => Ok(wallet.keep_checkpoint(pair, &note.checkpoint).await?),
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
        assert!(matches!(back, Err(LogError::WentBack { known: 3, shown: 2 })), "{back:?}");
        let forked = check(&receipt(&["a", "x", "c"], &key)).await;
        assert!(matches!(forked, Err(LogError::Forked { size: 3 })), "{forked:?}");
        let forged = check(&receipt(&["a", "b", "c", "d"], &other)).await;
        assert!(matches!(forged, Err(LogError::Unproven(_))), "{forged:?}");
        let mut moved = receipt(&["a", "b", "c", "d"], &key);
        moved.receipt.seq = 3;
        assert!(matches!(check(&moved).await, Err(LogError::Unproven(_))));
        // What it was shown stays what it was.
        check(&receipt(&["a", "b", "c"], &key)).await.unwrap();
    }
}
