//! `tocyn bench crypto`.

use std::io::Write;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde_json::json;

use super::machine;
use super::steps::{Implementation, Step, Tocyn, measure};
use crate::cli::{CliResult, Globals};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Tokens in a batch.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
}

/// How long all cores work at one step.
const ALL_CORES: Duration = Duration::from_secs(1);

pub(crate) fn run(globals: &Globals, args: &Args) -> CliResult {
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
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut out = std::io::stdout().lock();
    if !globals.json {
        writeln!(out, "{}\nbatches of {count}\n", machine::line())?;
        writeln!(
            out,
            "{:<14} {:>12} {:>16} {:>16}",
            "step",
            "us a token",
            "a second, 1 core",
            format!("{cores} cores")
        )?;
    }
    let mut rows = serde_json::Map::new();
    for ((name, make), us) in makes.iter().zip(times) {
        let all = all_cores((0..cores).map(|_| make(&tocyn, count)).collect(), count);
        if !globals.json {
            writeln!(out, "{name:<14} {us:>12.2} {:>16.0} {all:>16.0}", 1e6 / us)?;
        }
        let row = json!({ "us": us, "per_second_1_core": 1e6 / us, "per_second_all_cores": all });
        rows.insert((*name).to_owned(), row);
    }
    if globals.json {
        let report = json!({ "machine": machine::describe(), "batch": count, "steps": rows });
        writeln!(out, "{report}")?;
    }
    Ok(())
}

/// Tokens a second with one thread for each step in `steps`.
fn all_cores(steps: Vec<Step>, count: usize) -> f64 {
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
