//! Invites: all that a member needs, as one string that begins with `tocyn:group:`. Whoever has it
//! is a member.
//!
//! ```text
//! version       1  0x01
//! secret       32
//! name          2  + the group's name, UTF-8
//! origin key    2  + which signs the relay's statements of keys and its log, as NAME+ID+KEY
//! statement    32  hash of the relay's newest statement of keys; later ones name it
//! issuer        2  + its URL, UTF-8
//! cell bytes    2  of the relay
//! relays        1  + for each 2 and its URL, UTF-8
//! check         4  the first bytes of the SHA-256 of all of the above
//! ```
//! in base64url without padding.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tocyn_protocol::codec::{Reader, put_u16_bytes};
use tocyn_protocol::error::DecodeError;
use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::statement::StatementHash;
use zeroize::Zeroizing;

use super::GroupSecret;
use crate::transport::ServiceUrl;

/// What every invite begins with.
pub const PREFIX: &str = "tocyn:group:";
const VERSION: u8 = 1;
const CHECK_BYTES: usize = 4;
/// The most addresses of a relay in an invite.
pub const MAX_RELAYS: usize = 8;
/// The longest name of a group in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// What makes a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// The group's secret.
    pub secret: GroupSecret,
    /// What the group is called; a member may call it otherwise.
    pub name: String,
    /// The relay's origin key, which signs its log too.
    pub log_key: VerifierKey,
    /// The relay's statement of keys that who made the invite had pinned.
    pub statement: StatementHash,
    /// Where its tokens are to be had.
    pub issuer: ServiceUrl,
    /// The exact size of the relay's cells.
    pub cell_bytes: u16,
    /// Where the relay is: at least one address.
    pub relays: Vec<ServiceUrl>,
}

fn check(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let hash: [u8; 32] = Sha256::digest(bytes).into();
    [hash[0], hash[1], hash[2], hash[3]]
}

impl Invite {
    /// The string. It is as secret as what the group says.
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        let mut out = Zeroizing::new(vec![VERSION]);
        out.extend(self.secret.as_bytes());
        put_u16_bytes(&mut out, self.name.as_bytes());
        put_u16_bytes(&mut out, self.log_key.to_string().as_bytes());
        out.extend(self.statement.0);
        put_u16_bytes(&mut out, self.issuer.to_string().as_bytes());
        out.extend(self.cell_bytes.to_be_bytes());
        let relays = &self.relays[..self.relays.len().min(MAX_RELAYS)];
        out.push(relays.len() as u8);
        relays.iter().for_each(|url| put_u16_bytes(&mut out, url.to_string().as_bytes()));
        let check = check(&out);
        out.extend(check);
        Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&*out)))
    }
}

impl FromStr for Invite {
    type Err = DecodeError;

    /// Takes the string with whatever blanks and line breaks it got on its way. The error does not
    /// repeat it.
    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let what = "invite";
        let refused = |why| DecodeError::Text { what, why };
        let text: Zeroizing<String> =
            Zeroizing::new(text.chars().filter(|c| !c.is_whitespace()).collect());
        let text = text.strip_prefix(PREFIX).ok_or(refused("it must begin with tocyn:group:"))?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| refused("it was not copied as it is, or not whole"))?;
        let (bytes, sum) = bytes.split_last_chunk().ok_or(refused("it was not copied whole"))?;
        if *sum != check(bytes) {
            return Err(refused("it was not copied as it is, or not whole"));
        }
        let mut reader = Reader::new(what, bytes);
        if reader.u8()? != VERSION {
            return Err(refused("it is of a newer version; update this program"));
        }
        let secret = GroupSecret::from_bytes(reader.array()?);
        let text = |reader: &mut Reader<'_>| {
            let len = reader.u16()?;
            let text = String::from_utf8(reader.bytes(len.into())?.to_vec());
            text.map_err(|_| refused("it is not UTF-8"))
        };
        let url = |text: String| {
            text.parse::<ServiceUrl>().map_err(|_| refused("an address in it cannot be used"))
        };
        let (name, log_key) = (text(&mut reader)?, text(&mut reader)?.parse()?);
        let statement = StatementHash(reader.array()?);
        let issuer = url(text(&mut reader)?)?;
        let (cell_bytes, number) = (reader.u16()?, reader.u8()?);
        if usize::from(number) > MAX_RELAYS {
            return Err(refused("it names more than 8 relays"));
        }
        let mut relays = Vec::new();
        for _ in 0..number {
            let len = reader.u16()?;
            let text = String::from_utf8(reader.bytes(len.into())?.to_vec());
            relays.push(url(text.map_err(|_| refused("it is not UTF-8"))?)?);
        }
        reader.finish()?;
        if relays.is_empty() {
            return Err(refused("it names no relay"));
        }
        check_name(&name).map_err(refused)?;
        Ok(Self { secret, name, log_key, statement, issuer, cell_bytes, relays })
    }
}

/// Whether a group can be called so.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    match name {
        _ if name.trim() != name || name.is_empty() => {
            Err("a group's name must not be empty, nor begin or end with a blank")
        }
        _ if name.len() > MAX_NAME_BYTES => Err("a group's name has at most 64 bytes"),
        _ if name.chars().any(char::is_control) => {
            Err("a group's name must have no control characters")
        }
        _ => Ok(()),
    }
}

impl fmt::Display for Invite {
    /// Not the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invite to {} at {}", self.name, self.log_key.name())
    }
}
