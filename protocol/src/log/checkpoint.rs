//! What the relay commits itself to: how many messages its log has, and the root of the tree over
//! them (c2sp.org/tlog-checkpoint).

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::note::{LogKey, NoteError, VerifierKey};
use super::tree::NodeHash;
use crate::error::DecodeError;

/// ```text
/// relay.example
/// 20852163
/// CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
/// ```
/// The origin is the relay's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Leaves of the tree.
    pub size: u64,
    /// Its root.
    pub root: NodeHash,
}

impl Checkpoint {
    /// The signed note.
    pub fn sign(&self, key: &LogKey) -> String {
        let text = self.text(key.name());
        key.sign(&text[..text.len() - 1])
    }

    /// Takes a note as [`Self::open`] does, and gives it back with nothing in it but the checkpoint and
    /// this key's signature. Refuses extensions: they could mark whom they are shown to.
    pub fn open_bare(note: &str, key: &VerifierKey) -> Result<(Self, String), NoteError> {
        let checkpoint = Self::open(note, key)?;
        let bare = key.bare(note)?;
        match bare.starts_with(&checkpoint.text(key.name())) {
            true => Ok((checkpoint, bare)),
            false => {
                let why = "it has extensions, which could mark whom they are shown to";
                Err(DecodeError::Text { what: "checkpoint", why }.into())
            }
        }
    }

    /// The three lines, and the empty one that ends a note's text.
    fn text(&self, origin: &str) -> String {
        format!("{origin}\n{}\n{}\n\n", self.size, BASE64.encode(self.root.0))
    }

    /// Takes a note that is signed by this key, and whose origin is its name. Lines of extensions
    /// are passed over.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, NoteError> {
        let text = key.open(note)?;
        let refused = |why| DecodeError::Text { what: "checkpoint", why };
        let mut lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
        let mut line = || lines.next().ok_or(refused("it must have three lines"));
        if line()? != key.name() {
            return Err(refused("it is of another log").into());
        }
        let (number, root) = (line()?, line()?);
        if lines.any(str::is_empty) {
            return Err(refused("it has an empty line").into());
        }
        let size: u64 = number
            .parse()
            .ok()
            .filter(|size: &u64| size.to_string() == number)
            .ok_or(refused("its size must be a number"))?;
        let mut hash = [0; 32];
        let decoded = BASE64.decode(root).map_err(|_| refused("its root is not base64"))?;
        if decoded.len() != hash.len() {
            return Err(refused("its root must have 32 bytes").into());
        }
        hash.copy_from_slice(&decoded);
        Ok(Self { size, root: NodeHash(hash) })
    }
}
