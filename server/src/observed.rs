//! The relay as its operator sees it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use tocyn_service::admin::Observed;
use tocyn_service::metrics::free_bytes;
use tocyn_service::page::{self, Row, Section, number};
use tocyn_service::serve::Server;

use crate::followers::Followers;
use crate::metrics::Metrics;
use crate::relay::Relay;
use crate::store::Stats;

/// Counting reads all of the spent set: it takes a hundredth of the time at most.
const COUNT_SHARE: u32 = 100;
const COUNT_INTERVAL: Duration = Duration::from_secs(5);

/// A relay, and where it keeps what.
pub struct ObservedRelay {
    relay: Arc<Relay>,
    metrics: Metrics,
    registry: Registry,
    server: Server,
    followers: Arc<Followers>,
    /// Where the database's file is, if it is one.
    database: Option<PathBuf>,
    counted: Mutex<Option<Stats>>,
}

/// An epoch's count is shown for so long after it was closed, to be compared with what was issued.
const SHOWN_EPOCHS: u64 = 3;

impl ObservedRelay {
    pub(crate) fn new(relay: Arc<Relay>, server: Server, followers: Arc<Followers>) -> Self {
        let metrics = relay.metrics.clone();
        let (registry, database) = (metrics.registry(), relay.store.file());
        Self { relay, metrics, registry, server, followers, database, counted: Mutex::default() }
    }

    /// Counts spent tokens again and again.
    pub(crate) async fn count_forever(&self) {
        loop {
            let start = Instant::now();
            match self.relay.store.stats().await {
                Ok(stats) => self.set_counts(stats),
                Err(error) => tracing::warn!(%error, "cannot count the spent tokens"),
            }
            tokio::time::sleep(COUNT_INTERVAL.max(start.elapsed() * COUNT_SHARE)).await;
        }
    }

    fn set_counts(&self, stats: Stats) {
        let now = &self.metrics.now;
        for spent in &stats.spent {
            let key = self.relay.epochs.pairing().key_pair(spent.epoch).public().token_key_id();
            let labels = [("epoch", spent.epoch.to_string()), ("key", hex::encode(&key.0[..4]))];
            now.spent.get_or_create(&labels).set(spent.tokens as i64);
        }
        // An old count goes when nobody needs it any more; one is never missing in between.
        if let Ok(epoch) = self.relay.epochs.pairing().schedule().epoch_at((self.relay.clock)())
            && let Some(old) = epoch.checked_sub(SHOWN_EPOCHS)
        {
            let key = self.relay.epochs.pairing().key_pair(old).public().token_key_id();
            let labels = [("epoch", old.to_string()), ("key", hex::encode(&key.0[..4]))];
            now.spent.remove(&labels);
        }
        now.spent_counted_at.set((self.relay.clock)() as i64);
        now.sealed.set(stats.bundles as i64);
        now.database_bytes.set(stats.bytes as i64);
        *self.counted.lock().expect("no panic under the lock") = Some(stats);
    }

    /// The folder of sealed messages and what the file system has left, by name.
    fn places(&self) -> Vec<(&'static str, u64)> {
        let folder = self.relay.messages.folder().map(|folder| folder.path().to_owned());
        let places = [("database", self.database.clone()), ("log", folder)];
        let free = |(name, path): (_, Option<PathBuf>)| Some((name, free_bytes(&path?).ok()?));
        places.into_iter().filter_map(free).collect()
    }
}

impl Observed for ObservedRelay {
    async fn observe(&self) {
        let (now, relay) = (&self.metrics.now, &self.relay);
        now.posts_in_work.set(relay.posts_in_work() as i64);
        now.followers.set(self.followers.len() as i64);
        now.connections.set(self.server.open() as i64);
        now.connections_closed_for_others.set(self.server.evicted() as i64);
        let pairing = relay.epochs.pairing();
        if let Ok(epoch) = pairing.schedule().epoch_at((relay.clock)()) {
            now.epoch.set(epoch as i64);
            now.epoch_end.set(pairing.schedule().end(epoch) as i64);
            now.keys_end.set(pairing.schedule().last_end() as i64);
        }
        let range = relay.store.range().await;
        now.database_up.set(range.is_ok().into());
        if let Ok(range) = range {
            now.head.set(range.head as i64);
            now.oldest.set(range.oldest as i64);
        }
        for (name, free) in self.places() {
            now.free_bytes.get_or_create(&[("place", name)]).set(free as i64);
        }
    }

    fn registry(&self) -> &Registry {
        &self.registry
    }

    fn totals(&self) -> Vec<(&'static str, u64)> {
        let posts = |outcome| self.metrics.posts.get_or_create(&[("outcome", outcome)]).get();
        vec![("new messages", posts("new")), ("repeated posts", posts("repeat"))]
    }

    fn refusals(&self) -> Vec<(&'static str, u64)> {
        self.metrics.refusals.totals()
    }

    fn sections(&self) -> Vec<Section> {
        let now = &self.metrics.now;
        let shown = |gauge: &prometheus_client::metrics::gauge::Gauge| number(gauge.get() as u64);
        let up = now.database_up.get() == 1;
        let database = if up { "answers" } else { "does not answer" };
        let state = vec![
            Row::new("database", database).alarm_if(!up),
            Row::new("connections", shown(&now.connections)),
            Row::new("readers that follow", shown(&now.followers)),
            Row::new("posts in work", shown(&now.posts_in_work)),
        ];
        let left = (now.epoch_end.get() as u64).saturating_sub((self.relay.clock)());
        let (schedule, clock) = (self.relay.epochs.pairing().schedule(), (self.relay.clock)());
        let (keys_left, ends_soon) = (schedule.left(clock), clock >= schedule.renew_from());
        let mut epochs = vec![
            Row::new("current epoch", shown(&now.epoch)),
            Row::new("ends in", page::duration(left)),
            Row::new("last key ends in", page::duration(keys_left)).alarm_if(ends_soon),
        ];
        let counted = self.counted.lock().expect("no panic under the lock");
        for spent in counted.iter().flat_map(|stats| &stats.spent) {
            let name = format!("tokens spent in epoch {}", spent.epoch);
            epochs.push(Row::new(name, number(spent.tokens)));
        }
        let (oldest, head) = (now.oldest.get() as u64, now.head.get() as u64);
        let messages = (head + 1).saturating_sub(oldest);
        let mut storage = vec![Row::new("messages", number(messages))];
        if messages > 0 {
            let range = format!("{} to {}", number(oldest), number(head));
            storage.push(Row::new("their numbers", range));
        }
        if let Some(stats) = counted.as_ref() {
            storage.push(Row::new("of them sealed in files", number(stats.bundles * 256)));
            storage.push(Row::new("size of the database", page::bytes(stats.bytes)));
        }
        for (name, free) in self.places() {
            storage.push(Row::new(format!("disk space left for the {name}"), page::bytes(free)));
        }
        vec![
            Section::new("State", state),
            Section::new("Epochs", epochs),
            Section::new("Storage", storage),
        ]
    }

    fn title(&self) -> String {
        format!("Relay {}", self.relay.epochs.pairing().origin_name())
    }
}
