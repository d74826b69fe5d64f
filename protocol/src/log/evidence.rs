//! That a message is in the log, for anyone to check without the log (c2sp.org/tlog-proof).

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::checkpoint::Checkpoint;
use super::note::{MAX_NOTE_BYTES, NoteError, VerifierKey};
use super::proof::{InclusionProof, ProofError};
use super::tree::NodeHash;
use crate::error::DecodeError;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1\n";
/// Bytes of a hash in base64.
const HASH_BASE64_BYTES: usize = 44;

/// A leaf's place and proof, and the signed checkpoint that the proof leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedProof {
    /// The leaf's index, from 0: one less than the message's sequence.
    pub index: u64,
    /// Its siblings.
    pub inclusion: InclusionProof,
    /// A signed note.
    pub checkpoint: String,
}

/// Why a proof is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// The checkpoint.
    #[error("the checkpoint: {0}")]
    Note(#[from] NoteError),
    /// The way to its root.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl SignedProof {
    /// Checks that the log of this key has this leaf there; gives the checkpoint.
    pub fn verify(&self, leaf: NodeHash, key: &VerifierKey) -> Result<Checkpoint, EvidenceError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, key)?;
        self.inclusion.verify(self.index, leaf, checkpoint.size, checkpoint.root)?;
        Ok(checkpoint)
    }
}

impl SignedProof {
    /// The text form. A relay writes one for each post, so nothing is copied twice.
    pub fn to_text(&self) -> String {
        let lines = self.inclusion.0.len() * (HASH_BASE64_BYTES + 1);
        let length = FIRST_LINE.len() + "index 18446744073709551615\n\n".len();
        let mut text = String::with_capacity(length + lines + self.checkpoint.len());
        text.push_str(FIRST_LINE);
        text.push_str("index ");
        text.push_str(&self.index.to_string());
        text.push('\n');
        for hash in &self.inclusion.0 {
            BASE64.encode_string(hash.0, &mut text);
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.checkpoint);
        text
    }
}

impl fmt::Display for SignedProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

impl FromStr for SignedProof {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let refused = |why| DecodeError::Text { what: "log proof", why };
        if text.len() > MAX_NOTE_BYTES {
            return Err(refused("it is too long"));
        }
        let rest =
            text.strip_prefix(FIRST_LINE).ok_or(refused("it must be a c2sp.org/tlog-proof@v1"))?;
        let (head, checkpoint) = rest.split_once("\n\n").ok_or(refused("it has no checkpoint"))?;
        let mut lines = head.split('\n').skip_while(|line| line.starts_with("extra "));
        let number = lines.next().and_then(|line| line.strip_prefix("index ")).unwrap_or_default();
        let index: u64 = number
            .parse()
            .ok()
            .filter(|index: &u64| index.to_string() == number)
            .ok_or(refused("its index must be a number"))?;
        let hash = |line: &str| {
            let mut hash = [0; 32];
            match BASE64.decode_slice(line, &mut hash) {
                Ok(32) => Ok(NodeHash(hash)),
                _ => Err(refused("a hash in it has not 32 bytes")),
            }
        };
        let inclusion = InclusionProof(lines.map(hash).collect::<Result<_, _>>()?);
        Ok(Self { index, inclusion, checkpoint: checkpoint.to_owned() })
    }
}
