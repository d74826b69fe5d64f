//! `tocyn bench versus`: our steps and those of other implementations take turns in one run,
//! built with the same flags.

mod peers;

use serde_json::{Map, Value, json};

use super::report::{Output, Report, Table};
use super::steps::{Implementation, Step, Tocyn, measure};
use crate::cli::CliResult;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    #[command(flatten)]
    output: Output,
}

type Make = fn(&dyn Implementation, usize) -> Step;

/// Name, tokens in a batch, step.
const ROWS: [(&str, usize, Make); 6] = [
    ("issue_1", 1, |i, n| i.issue(n)),
    ("issue_64", 64, |i, n| i.issue(n)),
    ("issue_256", 256, |i, n| i.issue(n)),
    ("redeem_64", 64, |i, n| i.redeem(n)),
    ("finalize_64", 64, |i, n| i.finalize(n)),
    ("blind", 64, |i, n| i.blind(n)),
];

pub(crate) fn run(args: &Args) -> CliResult {
    args.output.check()?;
    let ours = Tocyn::new();
    let all: [&dyn Implementation; 4] =
        [&ours, &peers::Voprf::new(), &peers::VoprfNg::new(), &peers::Bypass::new()];
    let mut table = Table::new(["step", "", "", "", "", "fastest peer / ours"]);
    for (column, implementation) in table.columns[1..].iter_mut().zip(all) {
        *column = implementation.name().to_owned();
    }
    let mut json = json!({ "benchmark": "versus" });
    let bar = args.output.bar(ROWS.len() as u64, "steps");
    for (name, count, make) in ROWS {
        let mut steps: Vec<Step> = all.iter().map(|i| make(*i, count)).collect();
        let times = measure(&mut steps, count, args.rounds as usize);
        let fastest = times[1..].iter().copied().fold(f64::INFINITY, f64::min);
        let ratio = fastest / times[0];
        let cells = times.iter().chain([&ratio]).map(|value| format!("{value:.2}"));
        table.rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
        let peers: Map<String, Value> = all[1..]
            .iter()
            .zip(&times[1..])
            .map(|(i, us)| (i.name().to_owned(), json!(us)))
            .collect();
        json[name] = json!({ "ours_us": times[0], "peers": peers, "ratio": ratio });
        bar.inc(1);
    }
    bar.finish_and_clear();
    args.output.publish(&Report {
        title: "tocyn bench versus: microseconds a token, beside other implementations",
        facts: vec![("rounds", format!("{}; the median counts", args.rounds))],
        tables: vec![table],
        notes: Vec::new(),
        charts: Vec::new(),
        json,
    })
}
