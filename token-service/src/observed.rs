//! The issuer as its operator sees it.

use std::path::PathBuf;
use std::sync::Mutex;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tocyn_protocol::pairing::{Epoch, Pairing};
use tocyn_service::admin::Observed;
use tocyn_service::metrics::free_bytes;
use tocyn_service::page::{self, Row, Section, number};
use tocyn_service::serve::Server;

use crate::attester::Attester;
use crate::http::AppState;
use crate::store::{Issued, LedgerRow, StoreError, out_of_line};

/// What the counters are called.
const NAMES: [&str; 5] = [
    "tokens for vouchers",
    "tokens for allowances",
    "tokens for grants of another service",
    "tokens for work",
    "tokens for everyone",
];

/// An issuer, and where it keeps what.
pub struct ObservedIssuer {
    state: AppState,
    registry: Registry,
    server: Server,
    /// Where the database's file is, if it is one.
    database: Option<PathBuf>,
    seen: Mutex<Seen>,
}

impl ObservedIssuer {
    pub(crate) fn new(state: AppState, server: Server) -> Self {
        let (registry, database) = (state.metrics().registry(), state.store.file());
        Self { state, registry, server, database, seen: Mutex::default() }
    }
}

/// What the status page shows of the ledger.
#[derive(Default)]
struct Seen {
    ledger: Vec<LedgerRow>,
}

impl ObservedIssuer {
    async fn observe_ledger(&self) -> Result<(), StoreError> {
        let (state, now) = (&self.state, &self.state.metrics().now);
        for attester in Attester::ALL {
            let handed_out = now.handed_out.get_or_create(&[("attester", attester.name())]);
            handed_out.inc_by(state.store.handed_out(attester) - handed_out.get());
        }
        let pairing = state.keyring.pairing();
        let Ok(epoch) = pairing.schedule().epoch_at(state.now()) else { return Ok(()) };
        let (ledger, issued) = (state.store.ledger().await?, state.store.issued(epoch).await?);
        // Also where nothing was handed out: what was redeemed of that is not ours either.
        for epoch in epoch.saturating_sub(1)..=epoch + 1 {
            let labels = [("epoch", epoch.to_string()), ("key", key_text(pairing, epoch))];
            now.issued.get_or_create(&labels).set(0);
        }
        // Older keys are of no use to anyone: the relay takes their tokens no more.
        for row in ledger.iter().filter(|row| row.epoch + 2 > epoch) {
            let labels = [("epoch", row.epoch.to_string()), ("key", key_text(pairing, row.epoch))];
            now.issued.get_or_create(&labels).set(row.issued as i64);
            if let Some(redeemed) = row.redeemed {
                now.redeemed.get_or_create(&labels).set(redeemed as i64);
            }
        }
        now.excess.set(ledger.iter().map(LedgerRow::excess).sum::<u64>() as i64);
        now.out_of_line.set(out_of_line(&ledger, epoch.saturating_sub(1)).len() as i64);
        let budgets = state.attesters.budgets();
        let left = |name, budget: u64, issued: u64| {
            if budget > 0 {
                let left = budget.saturating_sub(issued) as i64;
                now.budget_left.get_or_create(&[("attester", name)]).set(left);
            }
        };
        let issued_by = |attester| {
            let of = |row: &&Issued| row.attester == attester && row.epoch == epoch;
            issued.iter().find(of).map_or(0, |row| row.tokens)
        };
        for attester in Attester::ALL {
            let budget = budgets.each[attester as usize].unwrap_or(0);
            left(attester.name(), budget, issued_by(attester));
        }
        left("total", budgets.total, Attester::ALL.into_iter().map(issued_by).sum());
        *self.seen.lock().expect("no panic under the lock") = Seen { ledger };
        Ok(())
    }
}

impl ObservedIssuer {
    fn budgets(&self) -> Vec<Row> {
        let (now, attesters) = (&self.state.metrics().now, &self.state.attesters);
        let each = Attester::ALL.into_iter().filter_map(|attester| {
            Some((attester.name(), attesters.budgets().each[attester as usize]?))
        });
        let budgets = std::iter::once(("total", attesters.budget)).chain(each);
        let mut rows: Vec<Row> = budgets
            .map(|(name, budget)| {
                if budget == 0 {
                    return Row::new(name, "no bound");
                }
                let left = now.budget_left.get_or_create(&[("attester", name)]).get() as u64;
                Row::new(name, format!("{} of {} left", number(left), number(budget)))
                    .alarm_if(left == 0)
            })
            .collect();
        if attesters.pow.enabled {
            rows.push(Row::new("effort for 16 tokens", number(now.effort.get() as u64)));
        }
        rows
    }
}

/// The newest epochs.
fn ledger(rows: &[LedgerRow]) -> Section {
    let row = |row: &LedgerRow| {
        let redeemed = match (row.redeemed, row.excess()) {
            (None, _) => "not\u{a0}reported".to_owned(),
            (Some(redeemed), 0) => number(redeemed),
            (Some(redeemed), excess) => {
                format!("{}, ALARM: {} more than were issued", number(redeemed), number(excess))
            }
        };
        Row {
            name: format!("epoch\u{a0}{}", row.epoch),
            values: vec![number(row.issued), redeemed],
            alarm: row.excess() > 0,
        }
    };
    let mut section =
        Section::new("Ledger, in tokens", rows.iter().rev().take(4).map(row).collect());
    if !rows.is_empty() {
        section.columns = vec!["issued", "redeemed"];
    }
    section
}

/// The first digits of an epoch's key id, as the relay's metrics have it too.
pub(crate) fn key_text(pairing: &Pairing, epoch: Epoch) -> String {
    hex::encode(&pairing.key_pair(epoch).public().token_key_id().0[..4])
}

impl Observed for ObservedIssuer {
    async fn observe(&self) {
        let (state, now) = (&self.state, &self.state.metrics().now);
        now.requests_in_work.set(state.pipeline.in_work() as i64);
        now.connections.set(self.server.open() as i64);
        now.connections_closed_for_others.set(self.server.evicted() as i64);
        let pairing = state.keyring.pairing();
        if let Ok(epoch) = pairing.schedule().epoch_at(state.now()) {
            now.epoch.set(epoch as i64);
            now.epoch_end.set(pairing.schedule().end(epoch) as i64);
            now.keys_end.set(pairing.schedule().last_end() as i64);
            now.renew_from.set(pairing.schedule().renew_from() as i64);
        }
        now.database_up.set(state.store.ping().await.is_ok().into());
        if let Some(free) = self.database.as_ref().and_then(|path| free_bytes(path).ok()) {
            now.free_bytes.set(free as i64);
        }
        now.effort.set(state.current_effort().into());
        if let Err(error) = self.observe_ledger().await {
            tracing::warn!(%error, "cannot read the ledger");
        }
    }

    fn registry(&self) -> &Registry {
        &self.registry
    }

    fn totals(&self) -> Vec<(&'static str, u64)> {
        let totals =
            |attester: Attester| (NAMES[attester as usize], self.state.store.handed_out(attester));
        let on = self.state.attesters.budgets();
        let on = |attester: &Attester| on.each[*attester as usize].is_some();
        Attester::ALL.into_iter().filter(on).map(totals).collect()
    }

    fn refusals(&self) -> Vec<(&'static str, u64)> {
        self.state.metrics().refusals.totals()
    }

    fn sections(&self) -> Vec<Section> {
        let now = &self.state.metrics().now;
        let shown = |gauge: &Gauge| number(gauge.get() as u64);
        let up = now.database_up.get() == 1;
        let database = if up { "answers" } else { "does not answer" };
        let left = (now.epoch_end.get() as u64).saturating_sub(self.state.now());
        let (schedule, clock) = (self.state.keyring.pairing().schedule(), self.state.now());
        let (keys_left, ends_soon) = (schedule.left(clock), clock >= schedule.renew_from());
        let mut state = vec![
            Row::new("database", database).alarm_if(!up),
            Row::new("connections", shown(&now.connections)),
            Row::new("requests in work", shown(&now.requests_in_work)),
        ];
        if self.database.is_some() {
            state.push(Row::new("disk space left", page::bytes(now.free_bytes.get() as u64)));
        }
        let epoch = vec![
            Row::new("current epoch", shown(&now.epoch)),
            Row::new("ends in", page::duration(left)),
            Row::new("last key ends in", page::duration(keys_left)).alarm_if(ends_soon),
        ];
        let seen = self.seen.lock().expect("no panic under the lock");
        vec![
            Section::new("State", state),
            Section::new("Epoch", epoch),
            Section::new("Budgets of this epoch, in tokens", self.budgets()),
            ledger(&seen.ledger),
        ]
    }

    fn title(&self) -> String {
        format!("Issuer {}", self.state.keyring.pairing().issuer_name())
    }
}
