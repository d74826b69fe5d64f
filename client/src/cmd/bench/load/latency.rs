//! Latencies, corrected for coordinated omission: while one answer is late, a connection of a
//! closed loop sends nothing, so the requests that would have been late as well are missing.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// The percentiles that are reported: name, share.
pub(crate) const PERCENTILES: [(&str, f64); 4] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];

/// Microseconds, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are possible")
}

/// Adds one measurement.
pub(crate) fn record(histogram: &mut Histogram<u64>, took: Duration) {
    // A year is the longest, so that a clock gone mad does not take all memory.
    let us = took.min(Duration::from_secs(365 * 86_400)).as_micros();
    histogram.record(us as u64).expect("the histogram grows");
}

/// With what a closed loop has omitted: where an answer took longer than a connection's mean
/// `interval` between requests, those that were due meanwhile.
pub(crate) fn corrected(raw: &Histogram<u64>, interval: Duration) -> Histogram<u64> {
    raw.clone_correct((interval.as_micros() as u64).max(1))
}

/// The mean time between two requests of one of so many connections.
pub(crate) fn mean_interval(took: Duration, connections: usize, requests: u64) -> Duration {
    took.mul_f64(connections as f64 / requests.max(1) as f64)
}

/// As JSON, in microseconds.
pub(crate) fn to_json(histogram: &Histogram<u64>) -> Value {
    let mut map: serde_json::Map<String, Value> = PERCENTILES
        .iter()
        .map(|(name, share)| ((*name).to_owned(), json!(histogram.value_at_quantile(*share))))
        .collect();
    map.insert("max".to_owned(), json!(histogram.max()));
    map.insert("mean".to_owned(), json!(histogram.mean()));
    map.insert("count".to_owned(), json!(histogram.len()));
    Value::Object(map)
}

/// As the cells of a table: p50, p99, p99.9, greatest, in milliseconds.
pub(crate) fn cells(histogram: &Histogram<u64>) -> [String; 4] {
    let quantile = |share| histogram.value_at_quantile(share);
    [quantile(0.5), quantile(0.99), quantile(0.999), histogram.max()]
        .map(|us| format!("{:.2}", us as f64 / 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_correction_adds_what_was_omitted() {
        let mut raw = histogram();
        for _ in 0..99 {
            record(&mut raw, Duration::from_millis(10));
        }
        record(&mut raw, Duration::from_millis(1000));
        assert!(raw.value_at_quantile(0.95) < 11_000);
        // Once every 10 ms: the second that one answer took hid 99 more, of 990, 980, .. 10 ms.
        let corrected = corrected(&raw, Duration::from_millis(10));
        assert_eq!(corrected.len(), 199);
        let p75 = corrected.value_at_quantile(0.75);
        assert!((490_000..=520_000).contains(&p75), "{p75}");
        assert_eq!(corrected.max(), raw.max());
    }

    #[test]
    fn the_interval_is_that_of_one_connection() {
        let interval = mean_interval(Duration::from_secs(10), 64, 80_000);
        assert_eq!(interval, Duration::from_millis(8));
        assert_eq!(mean_interval(Duration::from_secs(1), 2, 0), Duration::from_secs(2));
    }

    #[test]
    fn json_has_what_is_documented() {
        let mut one = histogram();
        record(&mut one, Duration::from_micros(700));
        let json = to_json(&one);
        for name in ["p50", "p90", "p99", "p999", "max", "count", "mean"] {
            assert!(json[name].as_f64().unwrap() > 0.0, "{name}");
        }
        assert_eq!(cells(&one)[0], "0.70");
    }
}
