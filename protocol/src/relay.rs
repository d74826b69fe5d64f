//! Messages as the relay sees them: ids, receipts, the info document, the stream of cells, and
//! the plaintext form of a cell.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::directory::TokenKey;
use crate::error::DecodeError;
use crate::keys::PublicKey;
use crate::log::checkpoint::Checkpoint;
use crate::log::evidence::{EvidenceError, SignedProof};
use crate::log::note::{NoteError, VerifierKey};
use crate::log::proof::{InclusionProof, ProofError};
use crate::log::tree::NodeHash;
use crate::pairing::Epoch;
use crate::statement::{self, Statement};

/// Cell size unless the operator chose another.
pub const DEFAULT_CELL_BYTES: usize = 2048;
/// Bytes before each cell of a stream: its sequence, a big-endian `u64`.
pub const STREAM_HEADER_BYTES: usize = 8;
/// Bytes before a plaintext: its length, a big-endian `u16`.
const PLAINTEXT_HEADER_BYTES: usize = 2;

/// `SHA-256(0x00 || cell)`, the leaf hash of RFC 6962: id, binding and Merkle leaf in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId([u8; 32]);

impl MessageId {
    /// The id of a cell.
    pub fn of(cell: &[u8]) -> Self {
        Self(Sha256::new().chain_update([0]).chain_update(cell).finalize().into())
    }

    /// An id that was stored.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for MessageId {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let mut id = [0; 32];
        hex::decode_to_slice(text, &mut id).map_err(|_| DecodeError::Text {
            what: "message id",
            why: "it must be 64 hexadecimal digits",
        })?;
        Ok(Self(id))
    }
}

impl Serialize for MessageId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The relay's answer to a stored post.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostReceipt {
    /// Place in the log, from 1, without gaps.
    pub seq: u64,
    /// The cell's id.
    pub message_id: MessageId,
    /// Unix seconds.
    pub received_at: u64,
}

/// A receipt, and the proof that its message is in the relay's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenReceipt {
    /// The receipt.
    #[serde(flatten)]
    pub receipt: PostReceipt,
    /// A [`SignedProof`] in its text form.
    pub proof: String,
}

impl ProvenReceipt {
    /// Checks that the message is where the receipt says, in the log of this key.
    pub fn verify(&self, key: &VerifierKey) -> Result<Checkpoint, EvidenceError> {
        let proof: SignedProof = self.proof.parse().map_err(NoteError::Decode)?;
        if proof.index.checked_add(1) != Some(self.receipt.seq) {
            return Err(ProofError.into());
        }
        proof.verify(self.receipt.message_id.into(), key)
    }
}

/// The document at `/v1/info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayInfo {
    /// The relay's name, the `origin_info` of its tokens and the name of `log_key`.
    pub origin_name: String,
    /// The name of the issuer whose tokens it takes.
    pub issuer_name: String,
    /// The exact size of a cell.
    pub cell_bytes: u64,
    /// The oldest sequence kept; `head + 1` where nothing is kept.
    pub oldest: u64,
    /// The newest sequence, 0 before the first message.
    pub head: u64,
    /// The current epoch.
    pub epoch: Epoch,
    /// Unix seconds by the relay's clock.
    pub now: u64,
    /// The relay's statements of keys, signed notes, at most 64, the newest last.
    pub statements: Vec<String>,
    /// Keys of the current and the next epoch, as in the issuer's directory, then of the one before.
    pub token_keys: Vec<ProvenKey>,
    /// The origin key: it signs the log and the statements.
    pub log_key: VerifierKey,
    /// Whether the bearer form is taken.
    pub bearer: bool,
    /// How long messages are kept.
    pub retention: RetentionInfo,
    /// Limits on readers.
    pub limits: Limits,
    /// Versions.
    pub versions: Versions,
}

impl RelayInfo {
    /// The keys as an issuer's directory has them, without proofs.
    pub fn plain_keys(self) -> Vec<TokenKey> {
        self.token_keys.into_iter().map(|proven| proven.key).collect()
    }
}

/// A token key, and that it is in the trees of statements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProvenKey {
    /// The key, as in the issuer's directory.
    #[serde(flatten)]
    pub key: TokenKey,
    /// Inclusion proofs, each of at most 16 nodes in base64: in the tree of the newest statement,
    /// and in the one before it while its keys are taken.
    pub proofs: Vec<Vec<String>>,
}

impl ProvenKey {
    /// The decoded key, if it is that of `epoch` in the tree of this statement.
    pub fn verify(&self, epoch: Epoch, statement: &Statement) -> Result<PublicKey, ProofError> {
        let key = self.key.public_key().map_err(|_| ProofError)?;
        let (count, root) = (statement.schedule.count, statement.root);
        let holds = |nodes: &Vec<String>| {
            decode_nodes(nodes).is_some_and(|proof| {
                statement::tree::verify(&proof, &key, epoch, count, root).is_ok()
            })
        };
        if self.proofs.iter().any(holds) { Ok(key) } else { Err(ProofError) }
    }

    /// A proof as it stands in the document.
    pub fn encode_proof(proof: &InclusionProof) -> Vec<String> {
        proof.0.iter().map(|node| BASE64.encode(node.0)).collect()
    }
}

fn decode_nodes(nodes: &[String]) -> Option<InclusionProof> {
    let node = |text: &String| Some(NodeHash(BASE64.decode(text).ok()?.try_into().ok()?));
    nodes.iter().map(node).collect::<Option<_>>().map(InclusionProof)
}

/// How long messages are kept: whichever bound is reached first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionInfo {
    /// Age in seconds; 0 is without bound.
    pub max_age_seconds: u64,
    /// Total bytes of cells; 0 is without bound.
    pub max_bytes: u64,
}

/// Limits on readers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The most readers that may follow at once.
    pub max_followers: u64,
}

/// Versions of program and protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The relay program.
    pub relay: String,
    /// The protocol, 1.
    pub protocol: u32,
}

/// Takes a stream of cells apart, however its bytes are cut.
pub struct CellDecoder {
    cell_bytes: usize,
    buffer: Vec<u8>,
}

impl CellDecoder {
    /// For cells of this size.
    pub fn new(cell_bytes: usize) -> Self {
        Self { cell_bytes, buffer: Vec::new() }
    }

    /// Takes more bytes and gives the cells that are whole now, with their sequences.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        self.buffer.extend_from_slice(bytes);
        let frame = STREAM_HEADER_BYTES + self.cell_bytes;
        let whole = self.buffer.len() / frame * frame;
        let cells = self.buffer[..whole]
            .chunks_exact(frame)
            .map(|frame| {
                let (seq, cell) = frame.split_at(STREAM_HEADER_BYTES);
                (u64::from_be_bytes(seq.try_into().expect("8 bytes")), cell.to_vec())
            })
            .collect();
        self.buffer.drain(..whole);
        cells
    }

    /// Whether the stream may end here: no cell is half received.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// The text does not fit a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message is too long: a cell of this relay holds at most {limit} bytes of text")]
pub struct TooLong {
    /// The most bytes that fit.
    pub limit: usize,
}

/// A cell with a readable plaintext: `u16` length, the bytes, zeros up to `cell_bytes`.
pub fn pack(text: &[u8], cell_bytes: usize) -> Result<Vec<u8>, TooLong> {
    let limit = cell_bytes.saturating_sub(PLAINTEXT_HEADER_BYTES).min(usize::from(u16::MAX));
    if text.len() > limit {
        return Err(TooLong { limit });
    }
    let mut cell = Vec::with_capacity(cell_bytes);
    crate::codec::put_u16_bytes(&mut cell, text);
    cell.resize(cell_bytes, 0);
    Ok(cell)
}

/// The plaintext of a cell that [`pack`] made; anything else is refused.
pub fn unpack(cell: &[u8]) -> Result<&[u8], DecodeError> {
    let mut reader = crate::codec::Reader::new("plaintext cell", cell);
    let len = reader.u16()?;
    let text = reader.bytes(len.into())?;
    if cell[PLAINTEXT_HEADER_BYTES + text.len()..].iter().any(|&byte| byte != 0) {
        return Err(DecodeError::Text { what: "plaintext cell", why: "its padding is not zero" });
    }
    Ok(text)
}
