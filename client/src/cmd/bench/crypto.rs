//! `tocyn bench crypto`.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde_json::json;

use super::machine;
use super::report::{Output, Report, Table};
use super::steps::{Implementation, Step, Tocyn, measure};
use crate::cli::CliResult;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Tokens in a batch.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    #[command(flatten)]
    output: Output,
}

/// How long all cores work at one step.
const ALL_CORES: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &Args) -> CliResult {
    args.output.check()?;
    let (tocyn, count) = (Tocyn::new(), args.batch as usize);
    type Make = fn(&Tocyn, usize) -> Step;
    let makes: [(&str, Make); 5] = [
        ("blind", Tocyn::blind),
        ("issue", Tocyn::issue),
        ("finalize", Tocyn::finalize),
        ("redeem", Tocyn::redeem),
        ("redeem, bound", Tocyn::redeem_bound),
    ];
    let mut steps: Vec<Step> = makes.iter().map(|(_, make)| make(&tocyn, count)).collect();
    let times = measure(&mut steps, count, args.rounds as usize);
    let all_cores_name = format!("{} cores", machine::cores());
    let mut table = Table::new(["step", "us a token", "a second, 1 core", &all_cores_name]);
    let mut rows = serde_json::Map::new();
    for ((name, make), us) in makes.iter().zip(times) {
        let all = all_cores(|| make(&tocyn, count), count);
        table.rows.push(vec![
            (*name).to_owned(),
            format!("{us:.2}"),
            format!("{:.0}", 1e6 / us),
            format!("{all:.0}"),
        ]);
        let row = json!({ "us": us, "per_second_1_core": 1e6 / us, "per_second_all_cores": all });
        rows.insert((*name).to_owned(), row);
    }
    args.output.publish(&Report {
        title: "tocyn bench crypto: the steps of a token, from wire bytes to wire bytes",
        facts: vec![
            ("batch", format!("{count} tokens")),
            ("rounds", format!("{}; the median counts", args.rounds)),
        ],
        tables: vec![table],
        notes: Vec::new(),
        charts: Vec::new(),
        json: json!({ "benchmark": "crypto", "batch": count, "steps": rows }),
    })
}

/// Tokens a second with one thread for each core, each with a step of its own.
pub(crate) fn all_cores(make: impl Fn() -> Step, count: usize) -> f64 {
    let steps: Vec<Step> = (0..machine::cores()).map(|_| make()).collect();
    let start = Barrier::new(steps.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = steps
            .into_iter()
            .map(|mut step| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    let (begun, mut worked, mut batches) = (Instant::now(), Duration::ZERO, 0u32);
                    while begun.elapsed() < ALL_CORES {
                        worked += step();
                        batches += 1;
                    }
                    f64::from(batches) * count as f64 / worked.as_secs_f64()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a step does not panic")).sum()
    })
}
