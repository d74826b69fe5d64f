//! What the issuer counts and measures. All of it is about all clients together.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tocyn_service::metrics::{By, Refusals, register_build};

/// The issuer's metrics. Clones count in the same ones.
#[derive(Clone)]
pub struct Metrics {
    /// Refused requests by reason.
    pub refusals: Refusals,
    charge_requests: Histogram,
    charge_seconds: Histogram,
    /// Set when somebody looks.
    pub(crate) now: Gauges,
}

/// What is known by asking.
#[derive(Clone, Default)]
pub(crate) struct Gauges {
    pub(crate) requests_in_work: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) connections_closed_for_others: Gauge,
    pub(crate) epoch: Gauge,
    pub(crate) epoch_end: Gauge,
    pub(crate) keys_end: Gauge,
    pub(crate) renew_from: Gauge,
    pub(crate) free_bytes: Gauge,
    pub(crate) database_up: Gauge,
    /// By attester.
    pub(crate) handed_out: By<&'static str, Counter>,
    /// By epoch and by the key's id.
    pub(crate) issued: ByKey,
    pub(crate) redeemed: ByKey,
    pub(crate) excess: Gauge,
    pub(crate) out_of_line: Gauge,
    /// By attester, and of all together: `total`.
    pub(crate) budget_left: By<&'static str, Gauge>,
    pub(crate) effort: Gauge,
}

/// By epoch and by the first digits of the key's id.
pub(crate) type ByKey = Family<[(&'static str, String); 2], Gauge>;

impl Default for Metrics {
    fn default() -> Self {
        Self {
            refusals: Refusals::default(),
            charge_requests: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            charge_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 14)),
            now: Gauges::default(),
        }
    }
}

impl Metrics {
    /// Notes a transaction of charges.
    pub(crate) fn charged(&self, requests: usize, time: Duration) {
        self.charge_requests.observe(requests as f64);
        self.charge_seconds.observe(time.as_secs_f64());
    }

    /// All of them, with names that begin with `tocyn_issuer_`.
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("tocyn_issuer");
        let r = &mut registry;
        register_build(r);
        r.register("requests_refused", "Refused requests, by reason", self.refusals.family());
        r.register(
            "charge_requests",
            "Requests charged by one transaction",
            self.charge_requests.clone(),
        );
        r.register_with_unit(
            "charge",
            "Time of one transaction of charges",
            Unit::Seconds,
            self.charge_seconds.clone(),
        );
        let now = &self.now;
        r.register(
            "requests_in_work",
            "Token requests that wait for their answer",
            now.requests_in_work.clone(),
        );
        r.register("connections", "Open connections of clients", now.connections.clone());
        r.register(
            "connections_closed_for_others",
            "Connections closed since the start because others needed their places",
            now.connections_closed_for_others.clone(),
        );
        r.register("epoch", "Number of the current epoch", now.epoch.clone());
        r.register(
            "epoch_end_timestamp_seconds",
            "When the current epoch ends, unix time",
            now.epoch_end.clone(),
        );
        r.register(
            "keys_end_timestamp_seconds",
            "When the pairing's last key ends, unix time; renew it before",
            now.keys_end.clone(),
        );
        r.register(
            "renew_pairing_timestamp_seconds",
            "From when on the pairing should be renewed, unix time",
            now.renew_from.clone(),
        );
        r.register_with_unit(
            "storage_free",
            "Space left where the database is, if it is a file",
            Unit::Bytes,
            now.free_bytes.clone(),
        );
        r.register(
            "database_up",
            "1 if the database answered when this was read",
            now.database_up.clone(),
        );
        r.register(
            "tokens_handed_out",
            "Tokens handed out by this process, by attester; repeats do not count",
            now.handed_out.clone(),
        );
        r.register(
            "issued_tokens",
            "Tokens handed out by all issuers, by epoch and first 8 digits of the key's id",
            now.issued.clone(),
        );
        r.register(
            "redeemed_tokens",
            "Tokens that the relay was reported to have redeemed, by epoch and key",
            now.redeemed.clone(),
        );
        r.register(
            "redeemed_excess_tokens",
            "Tokens redeemed and never handed out: above 0, somebody else has a key",
            now.excess.clone(),
        );
        r.register(
            "ledger_epochs_out_of_line",
            "Closed epochs whose tokens were left unspent to less than a third of the usual part",
            now.out_of_line.clone(),
        );
        r.register("budget_left_tokens", "Tokens left in this epoch of the budget of an attester, or of the total; without a bound there is no such metric", now.budget_left.clone());
        r.register(
            "pow_effort",
            "Solutions to try for 16 tokens by proof of work",
            now.effort.clone(),
        );
        registry
    }
}
