//! The statement of keys: what an origin commits itself to before anyone buys a token. It names the
//! pair, all its addresses, and the one key of each epoch, for ten years ahead. Everyone is shown the
//! same one, and each is signed, so a key, name or address for one reader only is evidence.
//!
//! ```text
//! tocyn-keys/v1
//! serial 0
//! previous none
//! origin relay.example
//! issuer issuer.example
//! issuer-address https://issuer.example
//! address https://relay.example
//! address http://NAME.onion
//! genesis 1795786824
//! length 604800
//! count 523
//! root CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//! ```
//! A signed note (c2sp.org/signed-note) under the origin key, whose name is the origin's, with that
//! one signature and no other.
//!
//! | part | module |
//! |---|---|
//! | addresses in their one form | [`address`] |
//! | the tree over the keys, and proofs | [`tree`] |
//! | each statement names the one before; what a pin demands | [`chain`] |

pub mod address;
pub mod chain;
pub mod tree;

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};

use crate::error::DecodeError;
use crate::log::note::{LogKey, NoteError, VerifierKey};
use crate::log::tree::NodeHash;
use crate::pairing::is_name;
use crate::schedule::{MAX_EPOCH_SECONDS, MAX_EPOCHS, MAX_GENESIS, MIN_EPOCH_SECONDS, Schedule};
use address::Address;

/// The first line.
const HEAD: &str = "tocyn-keys/v1";
/// The longest signed statement in bytes: more than the longest names and addresses take.
pub const MAX_STATEMENT_BYTES: usize = 4096;
/// The most addresses of an origin in a statement.
pub const MAX_ADDRESSES: usize = 8;
/// The name of the line in a checkpoint that names the newest statement.
pub const COMMITMENT_NAME: &str = "tocyn-keys";

/// SHA-256 of a signed statement, from its first byte to the newline after its signature.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatementHash(pub [u8; 32]);

impl StatementHash {
    /// Of a signed note.
    pub fn of(note: &str) -> Self {
        Self(Sha256::digest(note).into())
    }

    fn parse(text: &str) -> Option<Self> {
        let hash: [u8; 32] = BASE64.decode(text).ok()?.try_into().ok()?;
        Some(Self(hash))
    }
}

impl std::fmt::Display for StatementHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl std::fmt::Debug for StatementHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Which statement a signed document goes with: in checkpoints the line
/// `tocyn-keys <serial> <hash in base64>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Commitment {
    /// The statement's number.
    pub serial: u64,
    /// Its hash.
    pub hash: StatementHash,
}

impl Commitment {
    /// The line, without a newline.
    pub fn line(&self) -> String {
        format!("{COMMITMENT_NAME} {} {}", self.serial, self.hash)
    }

    /// Reads what [`Self::line`] wrote, and nothing else.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ').skip_while(|word| *word == COMMITMENT_NAME);
        let (serial, hash) = (words.next()?.parse().ok()?, StatementHash::parse(words.next()?)?);
        let commitment = Self { serial, hash };
        (commitment.line() == line).then_some(commitment)
    }
}

/// What an origin states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// 0 for an origin's first statement, then one more each.
    pub serial: u64,
    /// The statement before; None for the first.
    pub previous: Option<StatementHash>,
    /// The origin's name, also that of the key that signs.
    pub origin_name: String,
    /// The name of the issuer whose tokens it takes.
    pub issuer_name: String,
    /// Where the issuer is; None while its operator has not said.
    pub issuer_address: Option<Address>,
    /// Where the origin is, at most [`MAX_ADDRESSES`], in its operator's order.
    pub addresses: Vec<Address>,
    /// Start, length and number of the epochs.
    pub schedule: Schedule,
    /// Root of the tree over their keys.
    pub root: NodeHash,
}

const fn refused(why: &'static str) -> DecodeError {
    DecodeError::Text { what: "statement of keys", why }
}

impl Statement {
    /// The text that is signed.
    fn text(&self) -> String {
        let none_or = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
        let mut text = format!(
            "{HEAD}\nserial {}\nprevious {}\norigin {}\nissuer {}\nissuer-address {}\n",
            self.serial,
            none_or(self.previous.map(|hash| hash.to_string())),
            self.origin_name,
            self.issuer_name,
            none_or(self.issuer_address.as_ref().map(Address::to_string)),
        );
        for address in &self.addresses {
            writeln!(text, "address {address}").expect("a String takes it");
        }
        let Schedule { genesis, epoch_seconds, count } = self.schedule;
        let root = BASE64.encode(self.root.0);
        write!(text, "genesis {genesis}\nlength {epoch_seconds}\ncount {count}\nroot {root}\n")
            .expect("a String takes it");
        text
    }

    /// Signs it. The key must have the origin's name.
    pub fn sign(&self, key: &LogKey) -> Signed {
        assert_eq!(key.name(), self.origin_name, "an origin signs for itself");
        let note = key.sign(&self.text());
        Signed { hash: StatementHash::of(&note), statement: self.clone(), note }
    }

    /// Whether two statements say the same about the pair: all but their place in the chain.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let placeless = |s: &Self| Self { serial: 0, previous: None, ..s.clone() };
        placeless(self) == placeless(other)
    }

    /// Whether the keys are the same: those of the same epochs, at the same times.
    pub fn has_keys_of(&self, other: &Self) -> bool {
        (self.schedule, self.root) == (other.schedule, other.root)
    }

    /// Whether the origin says that it is at this address.
    pub fn lists(&self, address: &Address) -> bool {
        self.addresses.contains(address)
    }

    fn parse(text: &str) -> Result<Self, DecodeError> {
        let mut lines = text.lines().peekable();
        if lines.next() != Some(HEAD) {
            return Err(refused("it must begin with tocyn-keys/v1"));
        }
        let mut value = |name: &str| {
            let line = lines.next_if(|line| line.starts_with(name));
            line.and_then(|line| line[name.len()..].strip_prefix(' '))
        };
        let malformed = || refused("a line is missing, or makes no sense");
        let number =
            |text: Option<&str>| text.and_then(|text| text.parse().ok()).ok_or_else(malformed);
        let serial = number(value("serial"))?;
        let previous = match value("previous").ok_or_else(malformed)? {
            "none" => None,
            hash => Some(StatementHash::parse(hash).ok_or_else(malformed)?),
        };
        let origin_name = value("origin").ok_or_else(malformed)?.to_owned();
        let issuer_name = value("issuer").ok_or_else(malformed)?.to_owned();
        let issuer_address = match value("issuer-address").ok_or_else(malformed)? {
            "none" => None,
            address => Some(address.parse()?),
        };
        let mut addresses = Vec::new();
        while let Some(address) = value("address") {
            addresses.push(address.parse()?);
        }
        let schedule = Schedule {
            genesis: number(value("genesis"))?,
            epoch_seconds: number(value("length"))?,
            count: number(value("count"))?,
        };
        let root = value("root").and_then(StatementHash::parse).ok_or_else(malformed)?;
        let statement = Self {
            serial,
            previous,
            origin_name,
            issuer_name,
            issuer_address,
            addresses,
            schedule,
            root: NodeHash(root.0),
        };
        statement.validate()?;
        // What decodes encodes to the same bytes: no second form of one statement.
        match statement.text() == text {
            true => Ok(statement),
            false => Err(malformed()),
        }
    }

    fn validate(&self) -> Result<(), DecodeError> {
        let Schedule { genesis, epoch_seconds, count } = self.schedule;
        let mut addresses: Vec<_> = self.addresses.iter().collect();
        addresses.sort();
        addresses.dedup();
        let good = is_name(&self.origin_name)
            && is_name(&self.issuer_name)
            && (self.serial == 0) == self.previous.is_none()
            && addresses.len() == self.addresses.len()
            && addresses.len() <= MAX_ADDRESSES
            && (MIN_EPOCH_SECONDS..=MAX_EPOCH_SECONDS).contains(&epoch_seconds)
            && (1..=MAX_EPOCHS).contains(&count)
            && genesis <= MAX_GENESIS
            && self.serial <= i64::MAX as u64;
        if good { Ok(()) } else { Err(refused("a value in it is out of range")) }
    }
}

/// A statement with its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    statement: Statement,
    note: String,
    hash: StatementHash,
}

impl Signed {
    /// Takes a note that is signed by this key and by no other, and whose origin is the key's name.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, NoteError> {
        if note.len() > MAX_STATEMENT_BYTES {
            return Err(refused("it is too long").into());
        }
        let statement = Statement::parse(key.open(note)?)?;
        if statement.origin_name != key.name() {
            return Err(refused("it is of another origin than the key that signed it").into());
        }
        if key.bare(note)? != note {
            return Err(refused("it has other signatures than the origin's").into());
        }
        Ok(Self { statement, note: note.to_owned(), hash: StatementHash::of(note) })
    }

    /// What is stated.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The signed note.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// Its number and hash, as checkpoints name it.
    pub fn commitment(&self) -> Commitment {
        Commitment { serial: self.statement.serial, hash: self.hash }
    }
}

impl std::ops::Deref for Signed {
    type Target = Statement;

    fn deref(&self) -> &Statement {
        &self.statement
    }
}
