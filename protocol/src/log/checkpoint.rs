//! What the relay commits itself to: how many messages its log has, and the root of the tree over
//! them (c2sp.org/tlog-checkpoint).

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::note::{LogKey, NoteError, VerifierKey};
use super::tree::NodeHash;
use crate::error::DecodeError;
use crate::statement::Commitment;

/// ```text
/// relay.example
/// 20852163
/// CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
/// tocyn-keys 3 V5xFZ2yPzZ0n6kyV3v8bHb2pX3V8M2M2mXyB0mFJmVQ=
/// ```
/// The origin is the relay's name. The one extension line names the newest statement of keys, so that
/// receipts, members' messages, mirrors and evidence carry it. There is no room for anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Leaves of the tree.
    pub size: u64,
    /// Its root.
    pub root: NodeHash,
    /// The newest statement of keys.
    pub keys: Commitment,
}

impl Checkpoint {
    /// The signed note.
    pub fn sign(&self, key: &LogKey) -> String {
        key.sign(&self.text(key.name()))
    }

    /// Takes a note as [`Self::open`] does, and returns it without the signatures of others, which
    /// could mark whom they are shown to.
    pub fn open_bare(note: &str, key: &VerifierKey) -> Result<(Self, String), NoteError> {
        Ok((Self::open(note, key)?, key.bare(note)?))
    }

    fn text(&self, origin: &str) -> String {
        let root = BASE64.encode(self.root.0);
        format!("{origin}\n{}\n{root}\n{}\n", self.size, self.keys.line())
    }

    /// Takes a note that is signed by this key, whose origin is the key's name, and which has the
    /// four lines above and no other.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, NoteError> {
        let text = key.open(note)?;
        let refused = |why| DecodeError::Text { what: "checkpoint", why };
        let lines: Vec<&str> = text.lines().take(5).collect();
        let &[origin, number, root, keys] = lines.as_slice() else {
            return Err(refused(
                "it must have four lines: others could mark whom they are shown to",
            )
            .into());
        };
        if origin != key.name() {
            return Err(refused("it is of another log").into());
        }
        let size = number.parse().map_err(|_| refused("its size must be a number"))?;
        let decoded = BASE64.decode(root).map_err(|_| refused("its root is not base64"))?;
        let hash = decoded.try_into().map_err(|_| refused("its root must have 32 bytes"))?;
        let keys = Commitment::parse(keys)
            .ok_or(refused("its fourth line must be tocyn-keys, a serial and a hash"))?;
        let checkpoint = Self { size, root: NodeHash(hash), keys };
        // What decodes encodes to the same bytes.
        match checkpoint.text(origin) == text {
            true => Ok(checkpoint),
            false => Err(refused("it is not in its one form").into()),
        }
    }
}
