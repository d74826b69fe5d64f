//! The settings. Every key has a default; an unknown key is an error.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tocyn_service::clients::Budget;
use tocyn_service::config::Settings;
use tocyn_service::listen::{Address, Addresses};
use tocyn_service::secret::Secret;
use tocyn_service::serve::Bounds;
use tocyn_service::settled::DEFAULT_PATIENCE;

use crate::attester::Attesters;

/// The issuer's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where clients connect to: `ADDR:PORT`, with port 0 for a free one, `unix:PATH`, or several.
    pub listen: Addresses,
    /// Whether a PROXY line (version 1) begins every connection, as Tor and proxies send it: then
    /// `limits` has bounds for each client.
    pub proxy_protocol: bool,
    /// The operator's listener.
    pub admin: AdminListener,
    /// Who may have tokens.
    pub attesters: Attesters,
    /// How long the clock must have stayed ahead of the time that has passed before anything is
    /// deleted by it; "0s" believes every clock.
    #[serde(with = "humantime_serde")]
    pub clock_patience: Duration,
    /// The database.
    pub database: Database,
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
    /// What the operator logs in with on the status page; empty is the text of `admin.credential`
    /// in the data folder, which is made at the first start.
    pub credential: Secret,
}

/// Where vouchers are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// `sqlite:///absolute/path`, or `postgres://USER@HOST/DATABASE` for several issuers with the
    /// same vouchers; empty is `issuer.sqlite` in the data folder. `file:PATH` and `env:NAME` say
    /// where to find it.
    pub url: Secret,
}

/// Limits on requests and connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The most tokens in one request.
    pub max_batch: usize,
    /// How often one request may be repeated within `replay_window`.
    pub max_replays: u32,
    /// After this time the repeats are counted from zero again.
    #[serde(with = "humantime_serde")]
    pub replay_window: Duration,
    /// Refused requests of one voucher in a minute, beyond which no other is looked at.
    pub max_refusals_per_voucher: u32,
    /// Requests evaluated or waiting for it; more are answered 503. A quarter is kept for
    /// requests of at most 64 tokens.
    pub max_evaluations: usize,
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
            listen: Addresses(vec![Address::Tcp(([127, 0, 0, 1], 7801).into())]),
            proxy_protocol: false,
            admin: AdminListener::default(),
            attesters: Attesters::default(),
            clock_patience: DEFAULT_PATIENCE,
            database: Database::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for AdminListener {
    fn default() -> Self {
        Self {
            listen: Addresses(vec![Address::Unix("admin.sock".into())]),
            hosts: Vec::new(),
            credential: Secret::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_batch: 512,
            max_replays: 16,
            replay_window: Duration::from_secs(3600),
            max_refusals_per_voucher: 60,
            max_evaluations: 256,
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
        let limits = &self.limits;
        if self.listen.0.is_empty() {
            return Err("listen must name at least one address".into());
        }
        tocyn_service::admin::check_hosts(&self.admin.hosts)?;
        if !(16 * 1024..=1 << 30).contains(&limits.send_buffer_bytes) {
            return Err("limits.send_buffer_bytes must be from 16384 to 1073741824".into());
        }
        for (name, value) in [
            ("max_evaluations", limits.max_evaluations),
            ("max_connections", limits.max_connections),
            ("max_connections_per_client", limits.max_connections_per_client as usize),
            ("max_refusals_per_client", limits.max_refusals_per_client as usize),
            ("max_refusals_per_voucher", limits.max_refusals_per_voucher as usize),
        ] {
            if value == 0 {
                return Err(format!("limits.{name} must be above 0"));
            }
        }
        self.attesters.validate()?;
        let max = usize::from(u16::MAX);
        if !(1..=max).contains(&limits.max_batch) {
            return Err(format!("limits.max_batch must be from 1 to {max}"));
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
    fn unknown_keys_are_refused() {
        let error = toml::from_str::<Config>("[limits]\nmax_bach = 3\n").unwrap_err().to_string();
        assert!(error.contains("max_bach") && error.contains("line 2"), "{error}");
    }
}
