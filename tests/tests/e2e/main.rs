//! Scenarios with the real programs over real HTTP.

#![allow(clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests outlive no power cut")]

mod apart;
mod attesters;
mod backup;
mod bad_input_issuer;
mod bad_input_relay;
mod bench;
mod client_cli;
mod collusion;
mod crash_client;
mod crash_issuer;
mod crash_relay;
mod crash_sealing;
mod dashboards;
mod demo;
mod dependency_direction;
mod doctor;
mod double_spend;
mod drain;
mod epochs;
mod faults_sqlite;
mod folders;
mod groups;
mod honest_relay;
mod hostile;
mod hostile_bytes;
mod issuance;
mod log;
mod lying_relay;
mod manual;
mod onion;
mod openapi;
mod output;
mod owners;
mod privacy;
mod proxies;
mod readiness;
mod reading;
mod renewal;
mod scale_database;
mod scale_faults;
mod scale_rolling;
mod server_view;
mod status_page;
mod strangers;
mod supervised;
mod trust;
mod went_back;
mod wrong_member;
mod wrong_relay;

/// Scenarios that load the machine heavily come one after the other.
async fn heavy() -> tokio::sync::MutexGuard<'static, ()> {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    TURN.lock().await
}
