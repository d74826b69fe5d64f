//! What a member says; its parts are signed. Messages form a tree: each names those that its author had seen and nobody
//! had answered, so that whoever lacks one finds out. Each also carries what the relay has shown to
//! its author, so that a relay that shows different things to different members is found out.
//!
//! ```text
//! version     1  0x01
//! author     32  Ed25519 public key, another one in each group
//! counter     8  1 for the author's first message, then one more each
//! time        8  unix seconds, by the author's clock
//! name        2  + what the author wants to be called, UTF-8
//! parents     1  + 32 for each: ids of messages
//! checkpoint  2  + the newest one that the author was shown, a signed note; or nothing. It names the
//!                statement of keys that the author was shown
//! body        4  + what is said
//! ```
//! Integers are big-endian. A message's id is the SHA-256 of all of it.

use std::fmt;

use ed25519_dalek::{SECRET_KEY_LENGTH, SIGNATURE_LENGTH, Signer, SigningKey};
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use tocyn_protocol::codec::{Reader, put_u16_bytes};
use tocyn_protocol::error::DecodeError;
use zeroize::Zeroizing;

const VERSION: u8 = 1;
/// The longest name in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// The most messages that one names as seen. More are named by later ones.
pub const MAX_PARENTS: usize = 16;
/// The longest checkpoint that is passed on, in bytes.
pub const MAX_CHECKPOINT_BYTES: usize = 1024;

/// SHA-256 of a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub [u8; 32]);

impl Id {
    /// Of a message's bytes.
    pub fn of(message: &[u8]) -> Self {
        Self(Sha256::digest(message).into())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A member's secret key in one group. Zeroized when dropped.
pub struct AuthorKey(SigningKey);

impl AuthorKey {
    /// A fresh one.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; SECRET_KEY_LENGTH]);
        rng.fill_bytes(&mut *seed);
        Self::from_bytes(&seed)
    }

    /// One that was kept.
    pub fn from_bytes(seed: &[u8; SECRET_KEY_LENGTH]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The 32 bytes, to be kept.
    pub fn as_bytes(&self) -> &[u8; SECRET_KEY_LENGTH] {
        self.0.as_bytes()
    }

    /// Signs a part of a message.
    pub(super) fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_LENGTH] {
        self.0.sign(bytes).to_bytes()
    }

    /// Who it is to the others.
    pub fn author(&self) -> Author {
        Author(self.0.verifying_key().to_bytes())
    }
}

/// A member, as the others know it: an Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Author(pub [u8; 32]);

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// All of a message but who says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// 1 for the author's first message.
    pub counter: u64,
    /// Unix seconds, by the author's clock.
    pub time: u64,
    /// What the author wants to be called. Nobody vouches for it.
    pub name: String,
    /// Messages that the author had seen.
    pub parents: Vec<Id>,
    /// The newest checkpoint that the author was shown, a signed note.
    pub checkpoint: Option<String>,
    /// What is said.
    pub body: Vec<u8>,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: Id,
    /// Who says it. Whoever has its parts checks that they are signed by this key.
    pub author: Author,
    /// The rest.
    pub content: Content,
}

impl Content {
    /// The message's bytes, from this author. What is too much of it is left out: whoever composes
    /// it keeps to the limits of this module.
    pub fn encode(&self, author: Author) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend(author.0);
        out.extend(self.counter.to_be_bytes());
        out.extend(self.time.to_be_bytes());
        put_u16_bytes(&mut out, self.name.as_bytes());
        let parents = &self.parents[..self.parents.len().min(MAX_PARENTS)];
        out.push(parents.len() as u8);
        parents.iter().for_each(|parent| out.extend(parent.0));
        let checkpoint =
            self.checkpoint.as_deref().filter(|note| note.len() <= MAX_CHECKPOINT_BYTES);
        put_u16_bytes(&mut out, checkpoint.unwrap_or_default().as_bytes());
        out.extend((self.body.len() as u32).to_be_bytes());
        out.extend(&self.body);
        out
    }
}

impl Message {
    /// Whether a newer version of this program may be able to decode this.
    pub fn is_newer(bytes: &[u8]) -> bool {
        bytes.first().is_some_and(|version| *version > VERSION)
    }

    /// Decodes a message.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let what = "message";
        let refused = |why| DecodeError::Text { what, why };
        let text = |bytes: &[u8], why| {
            String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Text { what, why })
        };
        let mut reader = Reader::new(what, bytes);
        if reader.u8()? != VERSION {
            return Err(refused(
                "it is of a newer version; this program must be updated to read it",
            ));
        }
        let author = Author(reader.array()?);
        let counter = u64::from_be_bytes(reader.array()?);
        let time = u64::from_be_bytes(reader.array()?);
        if counter == 0 || counter > i64::MAX as u64 || time > i64::MAX as u64 {
            return Err(refused("its counter or time is out of range"));
        }
        let len = reader.u16()?;
        let name = text(reader.bytes(len.into())?, "its author's name is not UTF-8")?;
        if name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
            return Err(refused("its author's name is too long, or has control characters"));
        }
        let parents: Vec<Id> =
            (0..reader.u8()?).map(|_| reader.array().map(Id)).collect::<Result<_, _>>()?;
        let len = reader.u16()?;
        let note = text(reader.bytes(len.into())?, "its checkpoint is not UTF-8")?;
        // So that what decodes encodes to the same bytes: the id is a hash of them.
        if parents.len() > MAX_PARENTS || note.len() > MAX_CHECKPOINT_BYTES {
            return Err(refused("it has more parents, or a longer checkpoint, than any"));
        }
        let len = u32::from_be_bytes(reader.array()?);
        let body = reader.bytes(len as usize)?.to_vec();
        reader.finish()?;
        let checkpoint = (!note.is_empty()).then_some(note);
        let content = Content { counter, time, name, parents, checkpoint, body };
        Ok(Self { id: Id::of(bytes), author, content })
    }
}
