//! `tocyn bench versus`: our steps and those of other implementations take turns in one run,
//! built with the same flags.

mod peers;

use std::io::Write;

use serde_json::{Map, Value, json};

use super::machine;
use super::steps::{Implementation, Step, Tocyn, measure};
use crate::cli::{CliResult, Globals};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
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

pub(crate) fn run(globals: &Globals, args: &Args) -> CliResult {
    let ours = Tocyn::new();
    let all: [&dyn Implementation; 4] =
        [&ours, &peers::Voprf::new(), &peers::VoprfNg::new(), &peers::Bypass::new()];
    let mut out = std::io::stdout().lock();
    if !globals.json {
        writeln!(
            out,
            "{}\nmicroseconds a token, median of {} rounds\n",
            machine::line(),
            args.rounds
        )?;
        write!(out, "{:<12}", "step")?;
        for implementation in all {
            write!(out, " {:>14}", implementation.name())?;
        }
        writeln!(out, " {:>20}", "fastest peer / ours")?;
    }
    let mut rows = Map::new();
    for (name, count, make) in ROWS {
        let mut steps: Vec<Step> = all.iter().map(|i| make(*i, count)).collect();
        let times = measure(&mut steps, count, args.rounds as usize);
        let fastest = times[1..].iter().copied().fold(f64::INFINITY, f64::min);
        let ratio = fastest / times[0];
        if !globals.json {
            write!(out, "{name:<12}")?;
            for time in &times {
                write!(out, " {time:>14.2}")?;
            }
            writeln!(out, " {ratio:>20.2}")?;
        }
        let peers: Map<String, Value> = all[1..]
            .iter()
            .zip(&times[1..])
            .map(|(i, us)| (i.name().to_owned(), json!(us)))
            .collect();
        rows.insert(
            name.to_owned(),
            json!({ "ours_us": times[0], "peers": peers, "ratio": ratio }),
        );
    }
    if globals.json {
        rows.insert("machine".to_owned(), machine::describe());
        writeln!(out, "{}", Value::Object(rows))?;
    }
    Ok(())
}
