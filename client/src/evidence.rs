//! Evidence against a relay: files that anyone can check without the relay and without trust in who
//! made them. What cannot be shown by the relay's own signatures is said to be a witness's word.

#[cfg(test)]
mod tests;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use tocyn_protocol::error::DecodeError;
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::evidence::{EvidenceError, SignedProof};
use tocyn_protocol::log::note::{NoteError, VerifierKey};
use tocyn_protocol::log::proof::{ConsistencyProof, InclusionProof};
use tocyn_protocol::log::tree::NodeHash;
use tocyn_protocol::relay::MessageId;

use crate::printable::Printable;

/// The longest file that is looked at, in bytes.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;

/// What a relay did, with what shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Of this format: 1.
    pub tocyn_evidence: u32,
    /// Whose signatures are in it.
    pub log_key: VerifierKey,
    /// What was done.
    #[serde(flatten)]
    pub fault: Fault,
}

/// What a relay did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Fault {
    /// It signed two logs of which neither is the beginning of the other.
    Forked {
        /// The shorter one's checkpoint, or either if they have one length.
        first: String,
        /// The other one's.
        second: String,
        /// The root of as many messages of the second as the first has, in hexadecimal.
        root_in_second: String,
        /// That this is so: nodes in hexadecimal (RFC 6962 section 2.1.2).
        consistency: Vec<String>,
    },
    /// It acknowledged a message, and signed a log that has another one in its place.
    Unpublished {
        /// That it acknowledged it: a c2sp.org/tlog-proof.
        receipt: String,
        /// The message's id.
        message_id: MessageId,
        /// The other log's checkpoint.
        second: String,
        /// What is in its place: a message id.
        instead: MessageId,
        /// That this is so: nodes in hexadecimal (RFC 6962 section 2.1.1).
        inclusion: Vec<String>,
    },
    /// It showed a log, and later a shorter one.
    RolledBack {
        /// The checkpoint of the longer log.
        before: String,
        /// That of the shorter one.
        after: String,
    },
    /// It signed one checkpoint in two ways, as only one does that marks whom it shows which.
    Marked {
        /// One signed note.
        first: String,
        /// The other one.
        second: String,
    },
    /// It served other bytes than those in the log.
    Altered {
        /// That the log has another message there: a c2sp.org/tlog-proof.
        proof: String,
        /// That message's id.
        message_id: MessageId,
        /// What was served, in base64.
        served: String,
        /// By whom: the relay's address.
        served_by: String,
    },
}

/// How much a file shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The relay's own signatures show it, whoever made the file.
    Proven(String),
    /// The signatures are good, but part of it is only the word of who made the file.
    Witnessed(String),
}

/// Why a file shows nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoEvidence {
    /// Not such a file.
    #[error("this is no evidence file of this version of tocyn: {0}")]
    Format(String),
    /// A signature or proof in it is wrong.
    #[error("it shows nothing: {0}")]
    Proof(#[from] EvidenceError),
    /// What it shows is not wrong.
    #[error("it shows nothing: {0}")]
    NoFault(&'static str),
}

impl From<NoteError> for NoEvidence {
    fn from(error: NoteError) -> Self {
        EvidenceError::from(error).into()
    }
}

impl From<DecodeError> for NoEvidence {
    fn from(error: DecodeError) -> Self {
        NoteError::from(error).into()
    }
}

/// Hashes as they stand in a file.
pub fn to_hex(hashes: &[NodeHash]) -> Vec<String> {
    hashes.iter().map(|hash| hex::encode(hash.0)).collect()
}

fn from_hex(text: &str) -> Result<NodeHash, NoEvidence> {
    let mut hash = [0; 32];
    let decoded = hex::decode_to_slice(text, &mut hash);
    decoded.map_err(|_| NoEvidence::Format("a hash in it has not 64 hexadecimal digits".into()))?;
    Ok(NodeHash(hash))
}

impl Evidence {
    /// Against the relay with this key.
    pub fn new(log_key: &VerifierKey, fault: Fault) -> Self {
        Self { tocyn_evidence: 1, log_key: log_key.clone(), fault }
    }

    /// Reads a file.
    pub fn from_json(text: &[u8]) -> Result<Self, NoEvidence> {
        let evidence: Self =
            serde_json::from_slice(text).map_err(|error| NoEvidence::Format(error.to_string()))?;
        match evidence.tocyn_evidence {
            1 => Ok(evidence),
            _ => Err(NoEvidence::Format("it is of a newer one".into())),
        }
    }

    /// The file.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("it is plain data") + "\n"
    }

    /// A word for the kind of fault, as in the file's name.
    pub fn kind(&self) -> &'static str {
        match self.fault {
            Fault::Forked { .. } => "forked",
            Fault::Unpublished { .. } => "unpublished",
            Fault::RolledBack { .. } => "rolled-back",
            Fault::Marked { .. } => "marked",
            Fault::Altered { .. } => "altered",
        }
    }

    /// Checks everything in it; says what it shows.
    pub fn verify(&self) -> Result<Verdict, NoEvidence> {
        let key = &self.log_key;
        match &self.fault {
            Fault::Forked { first, second, root_in_second, consistency } => {
                let (first, second) =
                    (Checkpoint::open(first, key)?, Checkpoint::open(second, key)?);
                let root = from_hex(root_in_second)?;
                let nodes =
                    consistency.iter().map(|node| from_hex(node)).collect::<Result<_, _>>()?;
                let proven =
                    ConsistencyProof(nodes).verify(first.size, root, second.size, second.root);
                proven.map_err(EvidenceError::from)?;
                if root == first.root {
                    return Err(NoEvidence::NoFault(
                        "the first log is the beginning of the second",
                    ));
                }
                Ok(Verdict::Proven(format!(
                    "it signed a log of {} messages, and one of {} messages that does not begin \
                     with it: it shows different logs to different people",
                    first.size, second.size
                )))
            }
            Fault::Unpublished { receipt, message_id, second, instead, inclusion } => {
                let receipt: SignedProof = receipt.parse()?;
                receipt.verify((*message_id).into(), key)?;
                let second = Checkpoint::open(second, key)?;
                let nodes =
                    inclusion.iter().map(|node| from_hex(node)).collect::<Result<_, _>>()?;
                let (index, leaf) = (receipt.index, (*instead).into());
                let proven = InclusionProof(nodes).verify(index, leaf, second.size, second.root);
                proven.map_err(EvidenceError::from)?;
                if instead == message_id {
                    return Err(NoEvidence::NoFault("the message is where the receipt says"));
                }
                Ok(Verdict::Proven(format!(
                    "it acknowledged message {message_id} as number {}, and signed a log that has \
                     another one in its place: it left out what it had acknowledged",
                    index + 1
                )))
            }
            Fault::RolledBack { before, after } => {
                let (before, after) =
                    (Checkpoint::open(before, key)?, Checkpoint::open(after, key)?);
                if after.size >= before.size {
                    return Err(NoEvidence::NoFault("the log did not get shorter"));
                }
                Ok(Verdict::Witnessed(format!(
                    "it signed logs of {} and of {} messages. That the shorter one was shown later is \
                     the word of who made this file. If it was, the relay has lost messages, or \
                     hides them, or somebody on the way to it has repeated an old answer",
                    before.size, after.size
                )))
            }
            Fault::Marked { first, second } => {
                let (text, first) = (key.open(first)?, key.bare(first)?);
                if text != key.open(second)? || first == key.bare(second)? {
                    return Err(NoEvidence::NoFault("the checkpoints differ, or are the same"));
                }
                Ok(Verdict::Proven(
                    "it signed one checkpoint in two ways. Ed25519 gives one signature, so it does \
                     this on purpose: to know a reader again by what the reader passes on"
                        .to_owned(),
                ))
            }
            Fault::Altered { proof, message_id, served, served_by } => {
                let proof: SignedProof = proof.parse()?;
                proof.verify((*message_id).into(), key)?;
                let served = BASE64.decode(served);
                let served = served.map_err(|error| NoEvidence::Format(error.to_string()))?;
                if MessageId::of(&served) == *message_id {
                    return Err(NoEvidence::NoFault("what was served is what is in the log"));
                }
                Ok(Verdict::Witnessed(format!(
                    "its log has message {message_id} as number {}. That {} has served other bytes \
                     in its place is the word of who made this file; whoever asks for that \
                     message again may see it too",
                    proof.index + 1,
                    Printable(served_by)
                )))
            }
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proven(what) => write!(f, "proven: {what}"),
            Self::Witnessed(what) => write!(f, "witnessed: {what}"),
        }
    }
}
