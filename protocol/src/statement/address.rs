//! Addresses of services in their one form, so that equal addresses are equal bytes.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::DecodeError;

/// The longest address in bytes.
pub const MAX_ADDRESS_BYTES: usize = 255;

/// `http://` or `https://`, a host in lower case, a port unless it is the scheme's own, and a path
/// without a `/` at its end: `https://relay.example`, `http://NAME.onion`, `http://127.0.0.1:7802`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(String);

impl Address {
    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is on this machine: `localhost`, `127.0.0.0/8` or `[::1]`.
    pub fn is_loopback(&self) -> bool {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        let authority = rest.split('/').next().unwrap_or_default();
        let host = match authority.strip_prefix('[') {
            Some(v6) => v6.split(']').next().unwrap_or_default(),
            None => authority.split(':').next().unwrap_or_default(),
        };
        host == "localhost"
            || host == "::1"
            || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// A name that resolvers and URLs read in one way only: an IPv4 address in its one form, or labels of
/// which the last is no number, as URLs would read that as an address. No internationalised names,
/// which URLs check and rewrite.
fn is_host(host: &str) -> bool {
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return ip.to_string() == host;
    }
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let label =
        |label: &str| !label.is_empty() && !label.starts_with("xn--") && label.bytes().all(plain);
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|b| b.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    !is_number && host.split('.').all(label)
}

/// A path that leads nowhere else than it says: no empty, `.` or `..` segment, nothing escaped.
fn is_path(path: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    path.split('/').all(|segment| !matches!(segment, "" | "." | "..") && segment.bytes().all(plain))
}

fn is_address(text: &str) -> Option<()> {
    let (scheme, rest) = text.split_once("://")?;
    let own_port = match scheme {
        "http" => "80",
        "https" => "443",
        _ => return None,
    };
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, Some(path)),
        None => (rest, None),
    };
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, after) = v6.split_once(']')?;
            let ip: Ipv6Addr = host.parse().ok()?;
            (ip.to_string() == host && ip.to_ipv4_mapped().is_none()).then_some(())?;
            (None, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(authority), None),
        },
    };
    let good_port = |port: &str| {
        port != own_port && port.parse::<u16>().is_ok_and(|number| number.to_string() == port)
    };
    (host.is_none_or(is_host) && port.is_none_or(good_port) && path.is_none_or(is_path))
        .then_some(())
}

impl FromStr for Address {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        if text.len() > MAX_ADDRESS_BYTES || is_address(text).is_none() {
            let why = "it must be like https://relay.example or http://NAME.onion: lower case, no \
                 port that is the usual one, no '/' at its end, nothing from '?' or '#' on";
            return Err(DecodeError::Text { what: "address", why });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error| serde::de::Error::custom(format!("{text}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_form() {
        for good in [
            "https://relay.example",
            "http://relay.example:8080/tocyn/relay",
            "http://127.0.0.1:7802",
            "http://[::1]:7802",
            "https://[2001:db8::1]",
            "http://abc234.onion",
        ] {
            assert_eq!(good.parse::<Address>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "relay.example",
            "ftp://relay.example",
            "https://",
            "https://Relay.example",
            "https://relay.example/",
            "https://relay.example:443",
            "http://relay.example:80",
            "http://relay.example:080",
            "http://relay.example:",
            "http://relay.example:65536",
            "https://relay..example",
            "https://user@relay.example",
            "https://relay.example?x",
            "https://relay.example/a//b",
            "https://relay.example/../x",
            "https://relay.example/%61",
            "http://127.1",
            "http://2130706433",
            "http://0x7f.1",
            "http://1.2.3.256",
            "http://a.08",
            "http://a.0x1",
            "http://xn--a",
            "http://[::ffff:1.2.3.4]",
            "http://01.2.3.4",
            "http://[0:0::1]:1",
            "http://[::1",
            "http://relay.example\n",
            "http://rel ay",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
        assert!(format!("http://{}", "a".repeat(249)).parse::<Address>().is_err());
    }

    #[test]
    fn loopback_is_this_machine() {
        let is = |text: &str| text.parse::<Address>().unwrap().is_loopback();
        assert!(is("http://127.0.0.1:1") && is("http://127.9.9.9") && is("http://[::1]:5/x"));
        assert!(is("http://localhost:7802") && !is("http://localhost.example"));
        assert!(!is("http://127.example") && !is("http://128.0.0.1") && !is("http://[::2]"));
    }
}
