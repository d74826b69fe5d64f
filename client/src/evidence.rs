//! Evidence against a relay: files that anyone can check without the relay and without trust in who
//! made them. What cannot be shown by the relay's own signatures is said to be a witness's word.

#[cfg(test)]
mod tests;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use tocyn_protocol::directory::IssuerDirectory;
use tocyn_protocol::error::DecodeError;
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::evidence::{EvidenceError, SignedProof};
use tocyn_protocol::log::note::{NoteError, VerifierKey};
use tocyn_protocol::log::proof::{ConsistencyProof, InclusionProof};
use tocyn_protocol::log::tree::NodeHash;
use tocyn_protocol::pairing::Epoch;
use tocyn_protocol::relay::{MessageId, ProvenKey, RelayInfo};
use tocyn_protocol::statement::{Commitment, Signed};

use crate::printable::Printable;

/// The longest file that is looked at, in bytes: a document of 512 KiB, whose every byte may take
/// four in JSON within JSON, and a good deal more.
pub const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;

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
    /// It signed two statements of keys with one serial, or checkpoints that name two, or a longer log
    /// that names an earlier statement than a shorter one.
    Keys {
        /// A statement of keys, or a checkpoint.
        first: String,
        /// The other one.
        second: String,
    },
    /// It, or its issuer, showed a key that is not in its statement of keys.
    Unproven {
        /// The statement of keys, a signed note.
        statement: String,
        /// The document with the key: the relay's info document, or the issuer's directory.
        document: String,
        /// Of which epoch the key is said to be.
        epoch: Epoch,
        /// Who showed it: an address.
        shown_by: String,
        /// Where it was the issuer: the key of this epoch that the relay has proven.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proven: Option<Box<ProvenKey>>,
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
            Fault::Keys { .. } => "keys",
            Fault::Unproven { .. } => "unproven",
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
            Fault::Keys { first, second } => {
                keys(&Named::open(first, key)?, &Named::open(second, key)?)
            }
            Fault::Unproven { statement, document, epoch, shown_by, proven } => {
                let statement = Signed::open(statement, key)?;
                unproven(&statement, document, *epoch, proven.as_deref())?;
                Ok(Verdict::Witnessed(format!(
                    "its statement of keys number {} has another key of epoch {epoch} than {} has \
                     shown: such a key marks who uses it. That it was shown is the word of who made \
                     this file, since documents are not signed",
                    statement.serial,
                    Printable(shown_by)
                )))
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

/// A signed note that names a statement of keys.
struct Named {
    commitment: Commitment,
    /// Of the log, where it is a checkpoint.
    size: Option<u64>,
}

impl Named {
    fn open(note: &str, key: &VerifierKey) -> Result<Self, NoEvidence> {
        if let Ok(statement) = Signed::open(note, key) {
            return Ok(Self { commitment: statement.commitment(), size: None });
        }
        let Checkpoint { size, keys, .. } = Checkpoint::open(note, key)?;
        Ok(Self { commitment: keys, size: Some(size) })
    }
}

fn keys(first: &Named, second: &Named) -> Result<Verdict, NoEvidence> {
    let (one, two) = (first.commitment, second.commitment);
    if one.serial == two.serial && one.hash != two.hash {
        return Ok(Verdict::Proven(format!(
            "it signed two statements of keys with the number {}: it shows different keys, names or \
             addresses to different people, and so marks who they are",
            one.serial
        )));
    }
    let steps_back = |earlier: &Named, later: &Named| {
        earlier.size.zip(later.size).is_some_and(|(shorter, longer)| shorter < longer)
            && earlier.commitment.serial > later.commitment.serial
    };
    match steps_back(first, second) || steps_back(second, first) {
        true => Ok(Verdict::Proven(format!(
            "it signed a longer log that names an earlier statement of keys than a shorter one, \
             numbers {} and {}: it shows different statements to different people",
            one.serial.min(two.serial),
            one.serial.max(two.serial)
        ))),
        false => Err(NoEvidence::NoFault("both notes go with one chain of statements")),
    }
}

/// Refuses a document whose key of this epoch is the one in the statement.
fn unproven(
    statement: &Signed,
    document: &str,
    epoch: Epoch,
    proven: Option<&ProvenKey>,
) -> Result<(), NoEvidence> {
    let format = |error: serde_json::Error| NoEvidence::Format(error.to_string());
    let no_fault = Err(NoEvidence::NoFault("the key is the one in the statement of keys"));
    let lacks = NoEvidence::NoFault("the document has no key of this epoch");
    let Some(proven) = proven else {
        let info: RelayInfo = serde_json::from_str(document).map_err(format)?;
        if info.statements.last().map(String::as_str) != Some(statement.note()) {
            return Err(NoEvidence::NoFault("the document is of another statement of keys"));
        }
        let shown = info.token_keys.iter().find(|shown| shown.key.epoch == epoch).ok_or(lacks)?;
        return match shown.verify(epoch, statement) {
            Ok(_) => no_fault,
            Err(_) => Ok(()),
        };
    };
    let directory: IssuerDirectory = serde_json::from_str(document).map_err(format)?;
    let shown = directory.token_keys.iter().find(|shown| shown.epoch == epoch).ok_or(lacks)?;
    let proven = proven.verify(epoch, statement).map_err(EvidenceError::from)?;
    match shown.public_key() == Ok(proven) {
        true => no_fault,
        false => Ok(()),
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
