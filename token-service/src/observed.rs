//! The issuer as its operator sees it.

use std::path::PathBuf;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tocyn_service::admin::Observed;
use tocyn_service::metrics::free_bytes;
use tocyn_service::page::{self, Section, number};
use tocyn_service::serve::Server;

use crate::http::AppState;

/// An issuer, and where it keeps what.
pub struct ObservedIssuer {
    state: AppState,
    registry: Registry,
    server: Server,
    /// Where the database's file is, if it is one.
    database: Option<PathBuf>,
}

impl ObservedIssuer {
    pub(crate) fn new(state: AppState, server: Server) -> Self {
        let (registry, database) = (state.metrics().registry(), state.store.file());
        Self { state, registry, server, database }
    }
}

impl Observed for ObservedIssuer {
    async fn observe(&self) {
        let (state, now) = (&self.state, &self.state.metrics().now);
        now.requests_in_work.set(state.pipeline.in_work() as i64);
        now.connections.set(self.server.open() as i64);
        now.connections_closed_for_others.set(self.server.evicted() as i64);
        let pairing = state.keyring.pairing();
        if let Ok(epoch) = pairing.epoch_at(state.now()) {
            now.epoch.set(epoch as i64);
            now.epoch_end.set(pairing.epoch_end(epoch) as i64);
        }
        now.database_up.set(state.store.ping().await.is_ok().into());
        if let Some(free) = self.database.as_ref().and_then(|path| free_bytes(path).ok()) {
            now.free_bytes.set(free as i64);
        }
    }

    fn registry(&self) -> &Registry {
        &self.registry
    }

    fn totals(&self) -> Vec<(&'static str, u64)> {
        vec![("repeated requests", self.state.metrics().repeats.get())]
    }

    fn refusals(&self) -> Vec<(&'static str, u64)> {
        self.state.metrics().refusals.totals()
    }

    fn sections(&self) -> Vec<Section> {
        let now = &self.state.metrics().now;
        let shown = |gauge: &Gauge| number(gauge.get() as u64);
        let row = |name: &str, value: String| (name.to_owned(), value);
        let database = if now.database_up.get() == 1 { "answers" } else { "does not answer" };
        let left = (now.epoch_end.get() as u64).saturating_sub(self.state.now());
        let mut state = vec![
            row("database", database.to_owned()),
            row("connections", shown(&now.connections)),
            row("requests in work", shown(&now.requests_in_work)),
        ];
        if self.database.is_some() {
            state.push(row("space left", page::bytes(now.free_bytes.get() as u64)));
        }
        let epoch = vec![
            row("current epoch", shown(&now.epoch)),
            row("ends in", humantime::format_duration(Duration::from_secs(left)).to_string()),
        ];
        vec![Section { title: "State", rows: state }, Section { title: "Epoch", rows: epoch }]
    }

    fn title(&self) -> String {
        format!("Issuer {}", self.state.keyring.pairing().issuer_name())
    }
}
