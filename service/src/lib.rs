//! What issuer and relay run on, and what has nothing to do with tokens.
//!
//! | what | module |
//! |---|---|
//! | the program's start and end: logs, errors, exit status | [`program`] |
//! | what the commands print, where it can be written | [`output`] |
//! | settings from several places, secrets by reference | [`config`], [`secret`] |
//! | the data folder and its files | [`folder`] |
//! | which database | [`database`] |
//! | addresses, sockets, those that systemd passes on | [`listen`] |
//! | connections: taken, bounded in number and time, drained | [`serve`] |
//! | as many open files as the system gives | [`open_files`] |
//! | a request's body, in memory of its own | [`body`] |
//! | pages of all sites may use it | [`cors`] |
//! | what a client behind Tor or a proxy may do | `proxy`, [`clients`] |
//! | how often the same is done again | [`tally`] |
//! | what the operator sees: metrics and the status page | [`admin`], [`metrics`], [`page`] |
//! | whether the database takes writes, for `/readyz` | [`writing`] |
//! | telling systemd | [`supervisor`] |
//! | is all as it should be? | [`doctor`], [`probe`] |
//! | a copy of a data folder, and a data folder out of it | [`backup`] |

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests outlive no power cut"))]

pub mod admin;
pub mod backup;
pub mod body;
pub mod clients;
pub mod config;
mod connections;
pub mod cors;
pub mod database;
pub mod doctor;
pub mod folder;
pub mod listen;
pub mod metrics;
pub mod open_files;
pub mod output;
pub mod page;
pub mod probe;
pub mod program;
mod proxy;
pub mod secret;
pub mod serve;
mod stream;
pub mod supervisor;
pub mod tally;
pub mod writing;

use std::sync::Arc;

/// Where the time comes from: unix seconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The operating system's clock.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |age| age.as_secs())
    })
}

/// A time as text, UTC.
pub fn time_text(unix_seconds: u64) -> String {
    let time = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(unix_seconds));
    // Years beyond 9999 have no text form.
    match time.filter(|_| unix_seconds < 253_402_300_800) {
        Some(time) => humantime::format_rfc3339_seconds(time).to_string(),
        None => "never".to_owned(),
    }
}
