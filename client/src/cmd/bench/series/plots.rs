//! The plots of a series of runs.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::super::charts::{Axis, Chart, Line, Scale};
use super::super::load::SLOT;
use super::{Measured, Series};

/// The most points of a plot over time.
const POINTS: usize = 120;

impl Series {
    /// Throughput over time, percentiles of the latency, throughput against connections.
    pub(crate) fn charts(&self) -> Vec<Chart> {
        let y = |name| Axis { name, scale: Scale::Linear };
        vec![
            Chart {
                title: "Throughput over time",
                caption: "Of good answers.".to_owned(),
                x: Axis { name: "seconds", scale: Scale::Linear },
                y: y(self.unit),
                lines: self.lines(|measured, n| {
                    let slots = &measured.run.kinds[n].over_time;
                    over_time(slots, measured.run.took, self.units)
                }),
            },
            Chart {
                title: "Latency percentiles",
                caption: self.latency_note(),
                x: Axis { name: "share of requests", scale: Scale::Nines },
                y: y("milliseconds"),
                lines: self.lines(|measured, n| {
                    percentiles(&measured.latency(&measured.run.kinds[n], self.open))
                }),
            },
            Chart {
                title: "Throughput against connections",
                caption: "Of good answers.".to_owned(),
                x: Axis { name: "connections", scale: Scale::Log },
                y: y(self.unit),
                lines: self
                    .used()
                    .map(|(n, name)| {
                        let point =
                            |m: &Measured| (m.connections as f64, m.per_second(n) * self.units);
                        let mut points: Vec<_> = self.runs.iter().map(point).collect();
                        points.sort_by(|a, b| a.0.total_cmp(&b.0));
                        Line { name: name.to_owned(), points }
                    })
                    .collect(),
            },
        ]
    }

    /// A line for each kind of the only run, or for the first kind of each run.
    fn lines(&self, points: impl Fn(&Measured, usize) -> Vec<(f64, f64)>) -> Vec<Line> {
        if let [only] = self.runs.as_slice() {
            let line =
                |(n, name): (usize, &str)| Line { name: name.to_owned(), points: points(only, n) };
            return self.used().map(line).collect();
        }
        let Some((n, name)) = self.used().next() else { return Vec::new() };
        let line = |measured: &Measured| Line {
            name: format!("{name}, {} connections", measured.connections),
            points: points(measured, n),
        };
        self.runs.iter().map(line).collect()
    }
}

/// A second's worth for each slot; slots are put together so that not too many points come out.
pub(crate) fn over_time(slots: &[u64], took: Duration, units: f64) -> Vec<(f64, f64)> {
    let together = slots.len().div_ceil(POINTS).max(1);
    let whole = SLOT.as_secs_f64() * together as f64;
    let mut points = Vec::new();
    for (n, chunk) in slots.chunks(together).enumerate() {
        let start = n as f64 * whole;
        let length = whole.min(took.as_secs_f64() - start);
        // Of the last slot there may be too little to tell.
        if n == 0 || length > whole / 3.0 {
            let per_second = chunk.iter().sum::<u64>() as f64 * units / length.max(1e-3);
            points.push((start + length / 2.0, per_second));
        }
    }
    points
}

/// Milliseconds at shares from none to as many nines as there are measurements for.
pub(crate) fn percentiles(latency: &Histogram<u64>) -> Vec<(f64, f64)> {
    if latency.is_empty() {
        return Vec::new();
    }
    let last = (latency.len() as f64).log10().min(5.0);
    let shares = (0..).map(|n| f64::from(n) * 0.05).take_while(|nines| *nines <= last);
    shares
        .map(|nines| {
            let share = 1.0 - 10f64.powf(-nines);
            (share, latency.value_at_quantile(share) as f64 / 1e3)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::load::latency;
    use super::*;

    #[test]
    fn slots_are_put_together_and_the_last_one_may_be_short() {
        let points = over_time(&[10, 10, 5], Duration::from_millis(250), 2.0);
        assert_eq!(points[0], (0.05, 200.0));
        assert!((points[2].1 - 200.0).abs() < 1e-6, "{points:?}");
        assert_eq!(over_time(&[10, 1], Duration::from_millis(101), 1.0).len(), 1);
        let points = over_time(&vec![1; 1000], Duration::from_secs(100), 1.0);
        assert!(points.len() <= POINTS);
        assert!(points.iter().all(|point| (point.1 - 10.0).abs() < 0.5), "{points:?}");
    }

    #[test]
    fn percentiles_end_where_measurements_do() {
        let mut latency = latency::histogram();
        (1..=1000).for_each(|ms| latency::record(&mut latency, Duration::from_millis(ms)));
        let points = percentiles(&latency);
        assert_eq!(points[0].0, 0.0);
        let (share, ms) = points[points.len() - 1];
        assert!((share - 0.999).abs() < 1e-3 && (ms - 1000.0).abs() < 2.0, "{share} {ms}");
        assert!(percentiles(&latency::histogram()).is_empty());
    }
}
