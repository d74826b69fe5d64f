//! What the relay counts and measures. All of it is about all clients together.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tocyn_service::metrics::{By, Refusals, register_build};

/// The relay's metrics. Clones count in the same ones.
#[derive(Clone)]
pub struct Metrics {
    /// Posts that were stored: `outcome="new"`, or before with the same token: `"repeat"`.
    pub(crate) posts: By<&'static str, Counter>,
    /// Refused requests by reason.
    pub refusals: Refusals,
    /// Posts in one transaction.
    commit_messages: Histogram,
    /// From the first of its statements to the answer of its disk.
    commit_seconds: Histogram,
    /// Set when somebody looks.
    pub(crate) now: Gauges,
}

/// What is known by asking.
#[derive(Clone, Default)]
pub(crate) struct Gauges {
    pub(crate) posts_in_work: Gauge,
    pub(crate) followers: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) connections_closed_for_others: Gauge,
    pub(crate) head: Gauge,
    pub(crate) oldest: Gauge,
    pub(crate) epoch: Gauge,
    pub(crate) epoch_end: Gauge,
    pub(crate) keys_end: Gauge,
    /// By epoch and by the key's id.
    pub(crate) spent: Family<[(&'static str, String); 2], Gauge>,
    pub(crate) spent_counted_at: Gauge,
    pub(crate) sealed: Gauge,
    pub(crate) database_bytes: Gauge,
    /// By what is there: `database` or `log`.
    pub(crate) free_bytes: By<&'static str, Gauge>,
    pub(crate) database_up: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            posts: Family::default(),
            refusals: Refusals::default(),
            commit_messages: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            commit_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 14)),
            now: Gauges::default(),
        }
    }
}

impl Metrics {
    /// Notes a transaction of posts.
    pub(crate) fn committed(&self, messages: usize, time: Duration) {
        self.commit_messages.observe(messages as f64);
        self.commit_seconds.observe(time.as_secs_f64());
    }

    /// All of them, with names that begin with `tocyn_relay_`.
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("tocyn_relay");
        let r = &mut registry;
        register_build(r);
        r.register(
            "posts",
            "Posts answered with a receipt, by outcome: new or repeat",
            self.posts.clone(),
        );
        r.register("requests_refused", "Refused requests, by reason", self.refusals.family());
        r.register(
            "commit_messages",
            "Messages stored by one transaction",
            self.commit_messages.clone(),
        );
        r.register_with_unit(
            "commit",
            "Time of one transaction of posts",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        let now = &self.now;
        r.register("posts_in_work", "Posts that wait for their answer", now.posts_in_work.clone());
        r.register("followers", "Readers whose stream stays open", now.followers.clone());
        r.register("connections", "Open connections of clients", now.connections.clone());
        r.register(
            "connections_closed_for_others",
            "Connections closed since the start because others needed their places",
            now.connections_closed_for_others.clone(),
        );
        r.register("log_head_sequence", "Sequence of the newest message", now.head.clone());
        r.register(
            "log_oldest_sequence",
            "Sequence of the oldest message that is kept",
            now.oldest.clone(),
        );
        r.register("log_sealed_bundles", "Files of 256 sealed messages", now.sealed.clone());
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
        r.register("spent_tokens", "Spent tokens, by epoch and first 8 digits of the key's id; compare with tocyn_issuer_issued_tokens", now.spent.clone());
        r.register(
            "spent_tokens_counted_timestamp_seconds",
            "When they were counted, unix time",
            now.spent_counted_at.clone(),
        );
        r.register_with_unit(
            "database",
            "Size of the database",
            Unit::Bytes,
            now.database_bytes.clone(),
        );
        r.register_with_unit(
            "storage_free",
            "Space left where the database is (if it is a file), and the sealed messages",
            Unit::Bytes,
            now.free_bytes.clone(),
        );
        r.register(
            "database_up",
            "1 if the database answered when this was read",
            now.database_up.clone(),
        );
        registry
    }
}
