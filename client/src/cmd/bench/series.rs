//! Runs of the load generator, one for each number of connections, as tables, plots and JSON.

mod plots;

pub(crate) use self::plots::{over_time, percentiles};

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::load::latency::{self, cells, corrected, mean_interval};
use super::load::{Kind, Run, SLOT};
use super::report::{Table, number};
use super::usage::Usage;
use crate::cli::CliResult;

/// From so many cores on the load generator is taken to be at its limit.
const LOAD_LIMIT: f64 = 0.9;
/// From so many cores on other work is taken to disturb. The kernel's own part is in it.
const OTHERS_LIMIT: f64 = 0.25;

#[derive(clap::Args)]
pub(crate) struct LoadArgs {
    /// Connections; several numbers give a run for each: 1,4,16,64.
    #[arg(long, default_value = "64", value_delimiter = ',', value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) connections: Vec<u16>,
    /// Send so many requests a second by schedule, however late the answers are; without it each
    /// connection sends when it has its last answer.
    #[arg(long, value_name = "N", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Stop after this time.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: Option<f64>,
}

fn rate(text: &str) -> Result<f64, String> {
    within(text, 0.1, 1e6).ok_or("give requests a second, from 0.1 to 1000000".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    within(text, 0.1, 86_400.0).ok_or("give seconds, from 0.1 to 86400".to_owned())
}

/// A number in this range.
pub(crate) fn within(text: &str, low: f64, high: f64) -> Option<f64> {
    text.parse().ok().filter(|number| (low..=high).contains(number))
}

/// What one run showed.
pub(crate) struct Measured {
    pub(crate) connections: usize,
    pub(crate) run: Run,
    pub(crate) usage: Usage,
}

/// All runs of a benchmark.
pub(crate) struct Series {
    pub(crate) kinds: &'static [&'static str],
    /// Whether requests were sent by schedule.
    pub(crate) open: bool,
    /// What plots show: `tokens a second`.
    pub(crate) unit: &'static str,
    /// How many of them a request has.
    pub(crate) units: f64,
    pub(crate) runs: Vec<Measured>,
}

impl LoadArgs {
    /// For the report.
    pub(crate) fn fact(&self) -> (&'static str, String) {
        let connections: Vec<_> = self.connections.iter().map(u16::to_string).collect();
        let connections = connections.join(", ");
        let text = match self.rate {
            None => {
                format!("closed loop, {connections} connections, each with one request at a time")
            }
            Some(rate) => format!("open loop, {rate} requests a second, {connections} connections"),
        };
        ("load", text)
    }
}

impl Measured {
    fn seconds(&self) -> f64 {
        self.run.took.as_secs_f64()
    }

    pub(crate) fn per_second(&self, kind: usize) -> f64 {
        self.run.kinds[kind].good as f64 / self.seconds()
    }

    /// Latencies as they are shown: in an open loop from when a request was due, in a closed one
    /// with what it has omitted.
    fn latency(&self, kind: &Kind, open: bool) -> Histogram<u64> {
        match open {
            true => kind.from_due.clone(),
            false => {
                let interval = mean_interval(self.run.took, self.connections, kind.good);
                corrected(&kind.from_sent, interval)
            }
        }
    }
}

impl Series {
    /// The kinds that were sent at all: number, name.
    fn used(&self) -> impl Iterator<Item = (usize, &'static str)> + '_ {
        self.kinds.iter().copied().enumerate().filter(|(n, _)| {
            let answers = |kind: &Kind| kind.good + kind.busy + kind.wrong;
            self.runs.iter().any(|measured| answers(&measured.run.kinds[*n]) > 0)
        })
    }

    /// How to read the figures, and what may be wrong with them.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = vec![self.latency_note()];
        for Measured { connections, usage, .. } in &self.runs {
            let [load, .., others] = usage.cores().map(Option::unwrap_or_default);
            if load > LOAD_LIMIT {
                notes.push(format!(
                    "{connections} connections: the load generator kept {load:.2} cores busy and has \
                     only one thread; the services may be able to do more."
                ));
            }
            if others > OTHERS_LIMIT {
                notes.push(format!(
                    "{connections} connections: other work on this machine kept {others:.2} cores \
                     busy; repeat it when the machine is at rest."
                ));
            }
        }
        notes
    }

    fn latency_note(&self) -> String {
        let text = match self.open {
            true => "Latencies are of good answers, from the time at which a request was due.",
            false => {
                "Latencies are of good answers, corrected for coordinated omission: a closed loop \
                 sends nothing while it waits. The raw ones are in the JSON."
            }
        };
        text.to_owned()
    }

    /// Rates and latencies of each kind.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new([
            "connections",
            "kind",
            "answers",
            "a second",
            "busy",
            "wrong",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "max ms",
        ]);
        for measured in &self.runs {
            for (n, name) in self.used() {
                let kind = &measured.run.kinds[n];
                let mut row = vec![measured.connections.to_string(), name.to_owned()];
                row.extend([kind.good.to_string(), format!("{:.0}", measured.per_second(n))]);
                row.extend([kind.busy.to_string(), kind.wrong.to_string()]);
                row.extend(cells(&measured.latency(kind, self.open)));
                table.rows.push(row);
            }
        }
        table
    }

    /// Cores that each program kept busy, and what else `more` says of a run under `columns`.
    pub(crate) fn usage_table<const N: usize>(
        &self,
        columns: [&str; N],
        more: impl Fn(&Measured) -> [String; N],
    ) -> Table {
        let mut table =
            Table::new(["connections", "cores: load", "relay", "issuer", "others", "left by load"]);
        table.columns.extend(columns.map(str::to_owned));
        for measured in &self.runs {
            let mut row = vec![measured.connections.to_string()];
            row.extend(measured.usage.cores().map(|cores| number(cores, 2)));
            row.push(format!("{:.2}", measured.usage.cores_left()));
            row.extend(more(measured));
            table.rows.push(row);
        }
        table
    }

    /// One run as JSON; `more` members are added.
    pub(crate) fn run_json(&self, measured: &Measured, more: Value) -> Value {
        let run = &measured.run;
        let kinds: Map<String, Value> = self
            .used()
            .map(|(n, name)| {
                let kind = &run.kinds[n];
                let value = json!({
                    "good": kind.good, "busy": kind.busy, "wrong": kind.wrong,
                    "per_second": measured.per_second(n),
                    "latency_us": {
                        "raw": latency::to_json(&kind.from_sent),
                        "corrected": latency::to_json(&measured.latency(kind, self.open)),
                    },
                    "over_time": kind.over_time,
                });
                (name.to_owned(), value)
            })
            .collect();
        let mut value = json!({
            "connections": measured.connections, "seconds": measured.seconds(),
            "requests": run.answers(), "good": run.good(), "busy": run.busy(), "wrong": run.wrong(),
            "reconnects": run.reconnects, "slot_seconds": SLOT.as_secs_f64(),
            "requests_per_second": run.good() as f64 / measured.seconds(),
            "kinds": kinds, "cpu": measured.usage.to_json(),
            "relay_us_per_request": measured.usage.relay_us(run.answers()),
            "relay_peak_bytes": measured.usage.relay_peak_bytes,
        });
        if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
            value.extend(more);
        }
        value
    }

    /// An error if any answer was wrong.
    pub(crate) fn verdict(&self) -> CliResult {
        let wrong: u64 = self.runs.iter().map(|measured| measured.run.wrong()).sum();
        let first = self.runs.iter().find_map(|measured| measured.run.first_wrong.as_ref());
        match first {
            None => Ok(()),
            Some((kind, status, body)) => Err(format!(
                "{wrong} answers were wrong; the first, to a request of the kind {}, had status \
                 {status} and said: {}",
                self.kinds[*kind],
                tocyn_client::printable::Printable(body)
            )
            .into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sensible_numbers_are_taken() {
        assert_eq!((rate("4000"), seconds("1.5")), (Ok(4000.0), Ok(1.5)));
        for bad in ["0", "-1", "NaN", "inf", "x", "1e9"] {
            assert!(rate(bad).is_err() && seconds(bad).is_err(), "{bad}");
        }
    }
}
