//! The settings. Every key has a default; an unknown key is an error.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tocyn_protocol::log::tile::MAX_ENTRY_BYTES;
use tocyn_protocol::relay::DEFAULT_CELL_BYTES;
use tocyn_protocol::statement::MAX_ADDRESSES;
use tocyn_protocol::statement::address::Address as OriginAddress;
use tocyn_service::clients::Budget;
use tocyn_service::config::Settings;
use tocyn_service::listen::{Address, Addresses};
use tocyn_service::secret::Secret;
use tocyn_service::serve::Bounds;
use tocyn_service::settled::DEFAULT_PATIENCE;

/// The smallest and the largest cell in bytes.
const CELL_BYTES: std::ops::RangeInclusive<usize> = 64..=MAX_ENTRY_BYTES;

/// The relay's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where clients connect to: `ADDR:PORT`, with port 0 for a free one, `unix:PATH`, or several.
    pub listen: Addresses,
    /// Whether a PROXY line (version 1) begins every connection, as Tor and proxies send it: then
    /// `limits` has bounds for each client.
    pub proxy_protocol: bool,
    /// Every address at which clients reach this relay, at most 8. The relay signs them.
    pub addresses: Vec<OriginAddress>,
    /// Where clients reach the issuer; empty is none. The relay signs it.
    #[serde(with = "or_empty")]
    pub issuer_address: Option<OriginAddress>,
    /// The operator's listener.
    pub admin: AdminListener,
    /// The exact size of a message in bytes; it cannot change once messages are stored.
    pub cell_bytes: usize,
    /// Whether the bearer form of a token is taken beside the bound form.
    pub bearer: bool,
    /// How long the clock must have stayed ahead of the time that has passed before anything is
    /// deleted by it; "0s" believes every clock.
    #[serde(with = "humantime_serde")]
    pub clock_patience: Duration,
    /// The database.
    pub database: Database,
    /// The folder of sealed messages.
    pub log: LogFolder,
    /// How long messages are kept.
    pub retention: Retention,
    /// Limits on requests.
    pub limits: Limits,
}

/// Metrics and the status page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminListener {
    /// As `listen` above; a relative path is in the data folder. An empty list turns it off.
    pub listen: Addresses,
    /// Names by which browsers and other programs reach it, beside 127.0.0.1 and localhost.
    pub hosts: Vec<String>,
}

/// Where messages and spent tokens are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// `sqlite:///absolute/path`, or `postgres://USER@HOST/DATABASE` for several relays with
    /// one log; empty is `relay.sqlite` in the data folder. `file:PATH` and `env:NAME` say where
    /// to find it.
    pub url: Secret,
}

/// Where messages are sealed: 256 together, in a file that never changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogFolder {
    /// An absolute path. Empty is `log` in the data folder with SQLite; with PostgreSQL it is none,
    /// and all messages stay in the database.
    pub folder: PathBuf,
}

/// How long messages are kept: whichever bound is reached first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Messages older than this go; "0s" is without bound.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    /// The oldest messages go while all cells together have more bytes; 0 is without bound.
    pub max_bytes: u64,
}

/// Limits on requests and connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Posts in work at once; more are answered 503. Each holds one cell in memory.
    pub max_posts: usize,
    /// How often one token may come again in a minute after it was spent.
    pub max_repeats: u32,
    /// Readers that follow at once; beyond that the oldest one's stream ends.
    pub max_followers: usize,
    /// Memory for what all readers together have not taken, in bytes. Beyond that the one that has
    /// taken nothing for longest is cut off.
    pub reader_bytes: usize,
    /// Open connections. Beyond that the one whose client has kept us waiting longest is closed.
    pub max_connections: usize,
    /// With `proxy_protocol`: connections of one client at once.
    pub max_connections_per_client: u32,
    /// With `proxy_protocol`: refused posts or token requests of one client in a minute.
    pub max_refusals_per_client: u32,
    /// How long a client may take to send its headers.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// How long a client may take to send its body.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// How long a client may take none of its answer before it is cut off.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// Memory of the kernel for what one client has not taken of its answers, in bytes.
    pub send_buffer_bytes: usize,
    /// How long to take requests after a stop signal, with `/readyz` false already.
    #[serde(with = "humantime_serde")]
    pub leave_time: Duration,
    /// How long requests in flight may take to end after that.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Addresses(vec![Address::Tcp(([127, 0, 0, 1], 7802).into())]),
            proxy_protocol: false,
            addresses: Vec::new(),
            issuer_address: None,
            admin: AdminListener::default(),
            cell_bytes: DEFAULT_CELL_BYTES,
            bearer: true,
            clock_patience: DEFAULT_PATIENCE,
            database: Database::default(),
            log: LogFolder::default(),
            retention: Retention::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(90 * 86_400), max_bytes: 10_000_000_000 }
    }
}

impl Default for AdminListener {
    fn default() -> Self {
        Self { listen: Addresses(vec![Address::Unix("admin.sock".into())]), hosts: Vec::new() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_posts: 1024,
            max_repeats: 128,
            max_followers: 512,
            reader_bytes: 32 * 1024 * 1024,
            max_connections: 1024,
            max_connections_per_client: 16,
            max_refusals_per_client: 60,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            send_buffer_bytes: 256 * 1024,
            leave_time: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// An address, or "" for none.
mod or_empty {
    use super::OriginAddress;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        address: &Option<OriginAddress>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(address.as_ref().map_or("", OriginAddress::as_str))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<OriginAddress>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let error = |error| serde::de::Error::custom(format!("{text}: {error}"));
        match text.is_empty() {
            true => Ok(None),
            false => text.parse().map(Some).map_err(error),
        }
    }
}

impl Config {
    /// Bounds on the connections of clients.
    pub fn bounds(&self) -> Bounds {
        let limits = &self.limits;
        let per_client = Budget {
            connections: limits.max_connections_per_client,
            refusals: limits.max_refusals_per_client,
        };
        Bounds {
            connections: limits.max_connections,
            header_timeout: limits.header_timeout,
            write_timeout: limits.write_timeout,
            send_buffer: limits.send_buffer_bytes,
            drain_timeout: limits.drain_timeout,
            per_client: self.proxy_protocol.then_some(per_client),
        }
    }

    /// The same for the operator's: few, and never told apart.
    pub fn admin_bounds(&self) -> Bounds {
        Bounds { connections: 64, per_client: None, ..self.bounds() }
    }
}

impl Settings for Config {
    fn validate(&self) -> Result<(), String> {
        if !CELL_BYTES.contains(&self.cell_bytes) {
            let (min, max) = (CELL_BYTES.start(), CELL_BYTES.end());
            return Err(format!("cell_bytes must be from {min} to {max}"));
        }
        let folder = &self.log.folder;
        if folder.is_relative() && !folder.as_os_str().is_empty() {
            return Err("log.folder must be an absolute path, or empty".into());
        }
        let mut addresses: Vec<_> = self.addresses.iter().collect();
        addresses.sort();
        addresses.dedup();
        if self.addresses.len() > MAX_ADDRESSES || addresses.len() < self.addresses.len() {
            return Err(format!("addresses must be at most {MAX_ADDRESSES}, all different"));
        }
        let limits = &self.limits;
        if self.listen.0.is_empty() {
            return Err("listen must name at least one address".into());
        }
        tocyn_service::admin::check_hosts(&self.admin.hosts)?;
        if !(16 * 1024..=1 << 30).contains(&limits.send_buffer_bytes) {
            return Err("limits.send_buffer_bytes must be from 16384 to 1073741824".into());
        }
        for (name, value) in [
            ("max_posts", limits.max_posts),
            ("max_repeats", limits.max_repeats as usize),
            ("max_followers", limits.max_followers),
            ("max_connections", limits.max_connections),
            ("max_connections_per_client", limits.max_connections_per_client as usize),
            ("max_refusals_per_client", limits.max_refusals_per_client as usize),
        ] {
            if value == 0 {
                return Err(format!("limits.{name} must be above 0"));
            }
        }
        if limits.max_followers >= limits.max_connections {
            return Err(
                "limits.max_followers must be below .max_connections: a reader who follows \
                        holds a connection, and others need some too"
                    .into(),
            );
        }
        if !(1 << 20..=1 << 40).contains(&limits.reader_bytes) {
            return Err("limits.reader_bytes must be from 1048576 to 1099511627776".into());
        }
        if (1..self.cell_bytes as u64).contains(&self.retention.max_bytes) {
            return Err("retention.max_bytes must be 0 or hold at least one cell".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_the_default() {
        let example: Config = toml::from_str(include_str!("../config.example.toml")).unwrap();
        assert_eq!(example, Config::default());
        example.validate().unwrap();
    }

    #[test]
    fn unusable_values_are_refused() {
        assert!(toml::from_str::<Config>("cell_byte = 3\n").is_err());
        assert!(toml::from_str::<Config>("addresses = ['relay.example']\n").is_err());
        for text in [
            "cell_bytes = 63",
            "[limits]\nmax_posts = 0",
            "[limits]\nmax_followers = 5\nmax_connections = 5",
            "[retention]\nmax_bytes = 1",
            "[log]\nfolder = 'here'",
            "addresses = ['http://a.example', 'http://a.example']",
        ] {
            assert!(toml::from_str::<Config>(text).unwrap().validate().is_err(), "{text}");
        }
    }
}
