//! Scenarios with the real programs over real HTTP.

mod crash_client;
mod crash_issuer;
mod crash_relay;
mod dependency_direction;
mod double_spend;
mod epochs;
mod issuance;
