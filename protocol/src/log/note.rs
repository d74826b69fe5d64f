//! Text with a signature (c2sp.org/signed-note), Ed25519 only. Keys are written as Go's
//! `golang.org/x/mod/sumdb/note` writes them.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{
    SECRET_KEY_LENGTH, SIGNATURE_LENGTH, Signature, Signer, SigningKey, VerifyingKey,
};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::DecodeError;
use crate::pairing::is_name;

/// `0x01`, the signature type of Ed25519.
const ED25519: u8 = 1;
/// What a secret key begins with.
const SECRET_PREFIX: &str = "PRIVATE+KEY+";
/// What a signature line begins with: an em dash and a space.
const SIGNATURE_PREFIX: &str = "\u{2014} ";
/// The longest note that is looked at, in bytes.
pub const MAX_NOTE_BYTES: usize = 16 * 1024;

/// A note is not signed by whom it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Not a note, or not what should be in it.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// None of the signatures is of this key.
    #[error("it is not signed by {0}")]
    Unsigned(String),
    /// The key's signature is wrong.
    #[error("the signature of {0} is wrong")]
    Forged(String),
}

/// The first four bytes of `SHA-256(name || 0x0a || 0x01 || public key)`.
fn key_id(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let hash = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', ED25519])
        .chain_update(key.as_bytes())
        .finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

/// What `NAME+ID+KEY` consists of: the name, the id and the 32 bytes of the key.
type KeyText = (String, [u8; 4], Zeroizing<[u8; 32]>);

/// Takes `NAME+ID+KEY` apart.
fn decode_key(what: &'static str, text: &str) -> Result<KeyText, DecodeError> {
    let refused = DecodeError::Text { what, why: "it must be NAME+ID+KEY with an Ed25519 key" };
    let parse = || {
        let (name, rest) = text.split_once('+')?;
        let (id, key) = rest.split_once('+')?;
        let mut id_bytes = [0; 4];
        hex::decode_to_slice(id, &mut id_bytes).ok()?;
        let key = Zeroizing::new(BASE64.decode(key).ok()?);
        let (&[ED25519], key) = key.split_first_chunk()? else { return None };
        let mut bytes = Zeroizing::new([0; 32]);
        (key.len() == bytes.len()).then(|| bytes.copy_from_slice(key))?;
        is_name(name).then(|| (name.to_owned(), id_bytes, bytes))
    };
    parse().ok_or(refused)
}

/// Whose signature counts: a name and a public key. Written `NAME+ID+KEY`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: VerifyingKey,
}

impl VerifierKey {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A note that [`Self::open`] takes, without the signatures of others.
    pub fn bare(&self, note: &str) -> Result<String, NoteError> {
        let text = self.open(note)?;
        let start = format!("{SIGNATURE_PREFIX}{} ", self.name);
        let id = key_id(&self.name, &self.key);
        // All of the id: four bytes are five digits of base64 and two bits of the sixth, and a line
        // of another key with our name may have all but these.
        let is_mine = |line: &&str| {
            let signature = line.strip_prefix(&start).map(|text| BASE64.decode(text));
            signature.is_some_and(|bytes| bytes.is_ok_and(|bytes| bytes.starts_with(&id)))
        };
        let mine = note[text.len() + 1..].lines().find(is_mine);
        let mine = mine.ok_or_else(|| NoteError::Unsigned(self.name.clone()))?;
        Ok(format!("{text}\n{mine}\n"))
    }

    /// The text of a note, if it is signed by this key. Signatures of others are passed over.
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        let malformed = |why| NoteError::Decode(DecodeError::Text { what: "note", why });
        if note.len() > MAX_NOTE_BYTES {
            return Err(malformed("it is too long"));
        }
        if note.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return Err(malformed("it has a control character"));
        }
        let end = note.rfind("\n\n").ok_or(malformed("it has no signatures"))? + 1;
        let (text, lines) = (&note[..end], &note[end + 1..]);
        let id = key_id(&self.name, &self.key);
        let mut signed = false;
        for line in lines.strip_suffix('\n').ok_or(malformed("it breaks off"))?.split('\n') {
            let (name, signature) = line
                .strip_prefix(SIGNATURE_PREFIX)
                .and_then(|line| line.split_once(' '))
                .ok_or(malformed("what follows the text must be signatures"))?;
            let signature =
                BASE64.decode(signature).map_err(|_| malformed("a signature is not base64"))?;
            let Some((line_id, signature)) = signature.split_first_chunk() else {
                return Err(malformed("a signature is too short"));
            };
            // One is enough: a line that is there a hundred times costs no more.
            if signed || name != self.name || *line_id != id {
                continue;
            }
            let forged = || NoteError::Forged(self.name.clone());
            let signature: [u8; SIGNATURE_LENGTH] = signature.try_into().map_err(|_| forged())?;
            let verified =
                self.key.verify_strict(text.as_bytes(), &Signature::from_bytes(&signature));
            verified.map_err(|_| forged())?;
            signed = true;
        }
        if signed { Ok(text) } else { Err(NoteError::Unsigned(self.name.clone())) }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519];
        key.extend(self.key.as_bytes());
        let id = hex::encode(key_id(&self.name, &self.key));
        write!(f, "{}+{id}+{}", self.name, BASE64.encode(key))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for VerifierKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VerifierKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for VerifierKey {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let what = "verifier key";
        let (name, id, key) = decode_key(what, text)?;
        let key = VerifyingKey::from_bytes(&key)
            .ok()
            .filter(|key| !key.is_weak())
            .ok_or(DecodeError::Text { what, why: "its key is no good Ed25519 key" })?;
        if key_id(&name, &key) != id {
            return Err(DecodeError::Text { what, why: "its id does not belong to its key" });
        }
        Ok(Self { name, key })
    }
}

/// A relay's name and secret key, to sign its log with. Zeroized when dropped.
pub struct LogKey {
    name: String,
    key: SigningKey,
}

impl LogKey {
    /// A fresh key.
    pub fn generate(name: &str, rng: &mut impl CryptoRng) -> Self {
        let mut secret = Zeroizing::new([0; SECRET_KEY_LENGTH]);
        rng.fill_bytes(&mut *secret);
        Self { name: name.to_owned(), key: SigningKey::from_bytes(&secret) }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What others need to check its signatures.
    pub fn verifier(&self) -> VerifierKey {
        VerifierKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// A note: the text, which must end with a newline, an empty line and the signature.
    pub fn sign(&self, text: &str) -> String {
        let mut signature = key_id(&self.name, &self.key.verifying_key()).to_vec();
        signature.extend(self.key.sign(text.as_bytes()).to_bytes());
        format!("{text}\n{SIGNATURE_PREFIX}{} {}\n", self.name, BASE64.encode(signature))
    }

    /// The key in full, to be kept in a file: `PRIVATE+KEY+NAME+ID+KEY`.
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        let id = hex::encode(key_id(&self.name, &self.key.verifying_key()));
        let mut key = Zeroizing::new(vec![ED25519]);
        key.extend(self.key.as_bytes());
        let key = Zeroizing::new(BASE64.encode(&*key));
        Zeroizing::new(format!("{SECRET_PREFIX}{}+{id}+{}", self.name, *key))
    }

    /// Reads what [`Self::to_secret_text`] wrote. The error does not repeat it.
    pub fn from_secret_text(text: &str) -> Result<Self, DecodeError> {
        let what = "log key";
        let refused = |why| DecodeError::Text { what, why };
        let text =
            text.strip_prefix(SECRET_PREFIX).ok_or(refused("it must begin with PRIVATE+KEY+"))?;
        let (name, id, secret) = decode_key(what, text)?;
        let key = SigningKey::from_bytes(&secret);
        if key_id(&name, &key.verifying_key()) != id {
            return Err(refused("its id does not belong to its key"));
        }
        Ok(Self { name, key })
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogKey").field(&self.verifier()).finish()
    }
}
