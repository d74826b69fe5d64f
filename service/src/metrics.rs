//! Metrics in the OpenMetrics text form (`openmetrics.io`), and what was counted in the last hour.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Media type of the text.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A family of metrics with one label.
pub type By<T, M> = Family<[(&'static str, T); 1], M>;

/// In the extensions of a response: why the request was refused, a name out of a short list.
#[derive(Clone, Copy, Debug)]
pub struct Refused(pub &'static str);

/// Refused requests by reason.
#[derive(Clone, Default)]
pub struct Refusals(By<&'static str, Counter>, Arc<Mutex<Vec<&'static str>>>);

impl Refusals {
    /// Counts one.
    pub fn count(&self, reason: &'static str) {
        let label = [("reason", reason)];
        if self.0.get(&label).is_none() {
            let mut reasons = self.1.lock().expect("no panic under the lock");
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        self.0.get_or_create(&label).inc();
    }

    /// The metric itself.
    pub fn family(&self) -> By<&'static str, Counter> {
        self.0.clone()
    }

    /// Each reason that was ever counted, and how often.
    pub fn totals(&self) -> Vec<(&'static str, u64)> {
        let reasons = self.1.lock().expect("no panic under the lock").clone();
        let count = |reason| self.0.get_or_create(&[("reason", reason)]).get();
        reasons.into_iter().map(|reason| (reason, count(reason))).collect()
    }
}

/// The text of all metrics.
pub fn text(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).expect("a String takes it all");
    text
}

/// Registers `build_info`: version and commit of this program.
pub fn register_build(registry: &mut Registry) {
    let build: Family<[(&'static str, &'static str); 2], Gauge> = Family::default();
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("commit", crate::program::COMMIT)];
    build.get_or_create(&labels).set(1);
    registry.register("build_info", "Version and commit of the program; always 1", build);
}

/// Bytes that can still be written to the file system of `path`.
pub fn free_bytes(path: &Path) -> std::io::Result<u64> {
    let fs = rustix::fs::statvfs(path)?;
    Ok(fs.f_bavail.saturating_mul(fs.f_frsize))
}

/// How often the totals are noted.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);
const SAMPLES: usize = 361;

/// Totals as they were in the last hour.
#[derive(Default)]
pub struct History(Mutex<VecDeque<Sample>>);

type Sample = (Instant, Vec<(&'static str, u64)>);

impl History {
    /// Notes the totals of now.
    pub fn note(&self, totals: Vec<(&'static str, u64)>) {
        let mut samples = self.0.lock().expect("no panic under the lock");
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back((Instant::now(), totals));
    }

    /// How much each of these totals has grown in the last `time`, or since the start.
    pub fn growth(&self, totals: &[(&'static str, u64)], time: Duration) -> Vec<u64> {
        let samples = self.0.lock().expect("no panic under the lock");
        let then = samples.iter().rev().find(|(at, _)| at.elapsed() >= time);
        let before = |name: &str| {
            let totals = then.map(|(_, totals)| totals);
            totals.and_then(|totals| totals.iter().find(|(n, _)| *n == name)).map_or(0, |(_, n)| *n)
        };
        totals.iter().map(|(name, total)| total.saturating_sub(before(name))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_since_the_last_sample_that_is_old_enough() {
        let history = History::default();
        let posts = |n| vec![("posts", n)];
        assert_eq!(history.growth(&posts(5), Duration::ZERO), [5], "since the start");
        history.note(posts(5));
        assert_eq!(history.growth(&posts(7), Duration::ZERO), [2]);
        assert_eq!(history.growth(&posts(7), Duration::from_secs(60)), [7]);
        assert_eq!(history.growth(&[("other", 3)], Duration::ZERO), [3]);
    }

    #[test]
    fn a_refusal_is_counted_under_its_reason() {
        let refusals = Refusals::default();
        refusals.count("busy");
        refusals.count("busy");
        let mut registry = Registry::with_prefix("tocyn_relay");
        registry.register("requests_refused", "Refused", refusals.family());
        register_build(&mut registry);
        let text = text(&registry);
        assert!(text.contains("tocyn_relay_requests_refused_total{reason=\"busy\"} 2"), "{text}");
        assert!(text.contains("tocyn_relay_build_info{version=\"0.1.0\""), "{text}");
        assert_eq!(refusals.totals(), [("busy", 2)]);
    }
}
