//! `config.toml`. Every key has a default; an unknown key is an error.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The issuer's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address to listen on; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The database.
    pub database: Database,
    /// Limits on requests.
    pub limits: Limits,
}

/// Where vouchers are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// `sqlite:///absolute/path`, or `postgres://USER@HOST/DATABASE` for several issuers with the
    /// same vouchers; empty is `issuer.sqlite` in the data folder.
    pub url: String,
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
    /// Requests evaluated or waiting for it; more are answered 503. A quarter is kept for
    /// requests of at most 64 tokens.
    pub max_evaluations: usize,
    /// Open connections; more wait until one closes.
    pub max_connections: usize,
    /// How long a client may take to send its headers.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// How long a client may take to send its body.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// How long a client may take none of its answer before it is cut off.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
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
            listen: SocketAddr::from(([127, 0, 0, 1], 7801)),
            database: Database::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_batch: 512,
            max_replays: 16,
            replay_window: Duration::from_secs(3600),
            max_evaluations: 256,
            max_connections: 1024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            leave_time: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// Refuses values that would stop the service from working.
    pub fn validate(&self) -> Result<(), String> {
        let limits = &self.limits;
        let max = usize::from(u16::MAX);
        if !(1..=max).contains(&limits.max_batch) {
            return Err(format!("limits.max_batch must be from 1 to {max}"));
        }
        if limits.max_evaluations == 0 || limits.max_connections == 0 {
            return Err("limits.max_evaluations and limits.max_connections must be above 0".into());
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
