//! `tocyn bench sift`.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use serde_json::json;
use tocyn_client::group::GroupSecret;
use tocyn_client::group::cell::{CellKeys, OVERHEAD_BYTES};
use tocyn_protocol::log::note::LogKey;
use tocyn_protocol::relay::{DEFAULT_CELL_BYTES, MessageId};

use super::machine;
use super::report::{Output, Report, Table};
use crate::cli::CliResult;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Groups that the reader is in.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    groups: u32,
    /// Cells in memory for each core; each round goes over them once.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    cells: u32,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    #[command(flatten)]
    output: Output,
}

/// One in so many cells is of one of the groups.
const OWN: usize = 100;

/// Something that is done with each cell.
type Work = fn(&[CellKeys], &[u8]);

fn sift(keys: &[CellKeys], cell: &[u8]) {
    for keys in keys.iter().filter(|keys| keys.claims(cell)) {
        black_box(keys.open(cell));
    }
}

fn hash(_: &[CellKeys], cell: &[u8]) {
    black_box(MessageId::of(cell));
}

fn both(keys: &[CellKeys], cell: &[u8]) {
    hash(keys, cell);
    sift(keys, cell);
}

pub(crate) fn run(args: &Args) -> CliResult {
    args.output.check()?;
    let rng = &mut UnwrapErr(SysRng);
    let relay = LogKey::generate("relay", rng).verifier();
    let keys: Vec<CellKeys> = (0..args.groups)
        .map(|_| CellKeys::new(&GroupSecret::generate(&mut UnwrapErr(SysRng)), &relay))
        .collect();
    let cores = machine::cores();
    let mut logs = Vec::new();
    for _ in 0..cores {
        let mut log = vec![0; args.cells as usize * DEFAULT_CELL_BYTES];
        rng.fill_bytes(&mut log);
        for (n, cell) in log.chunks_exact_mut(DEFAULT_CELL_BYTES * OWN).enumerate() {
            let plaintext = [7; DEFAULT_CELL_BYTES - OVERHEAD_BYTES];
            let own = keys[n % keys.len()].seal(&plaintext, rng);
            cell[..DEFAULT_CELL_BYTES].copy_from_slice(&own);
        }
        logs.push(log);
    }
    let names: [(&str, Work); 3] =
        [("sift", sift), ("hash, to hold it against the tree", hash), ("both", both)];
    let mut table =
        Table::new(["step", "ns a cell", "ns a cell and group", "cells a second, all cores"]);
    let mut rows = serde_json::Map::new();
    for (name, work) in names {
        let mut one: Vec<f64> =
            (0..args.rounds).map(|_| seconds(&keys, &logs[..1], work)).collect();
        let mut all: Vec<f64> = (0..args.rounds).map(|_| seconds(&keys, &logs, work)).collect();
        one.sort_by(f64::total_cmp);
        all.sort_by(f64::total_cmp);
        let median = args.rounds as usize / 2;
        let ns = one[median] / f64::from(args.cells) * 1e9;
        let per_second = f64::from(args.cells) * cores as f64 / all[median];
        let a_group = ns / f64::from(args.groups);
        table.rows.push(vec![
            name.to_owned(),
            format!("{ns:.0}"),
            if name == "sift" { format!("{a_group:.0}") } else { "-".to_owned() },
            format!("{per_second:.0}"),
        ]);
        rows.insert(name.to_owned(), json!({ "ns": ns, "cells_per_second": per_second }));
    }
    args.output.publish(&Report {
        title: "tocyn bench sift: finding the cells of one's groups among all",
        facts: vec![
            ("groups", args.groups.to_string()),
            ("cells", format!("of {DEFAULT_CELL_BYTES} bytes, one in {OWN} is of a group")),
            ("rounds", format!("{}; the median counts", args.rounds)),
        ],
        tables: vec![table],
        notes: Vec::new(),
        charts: Vec::new(),
        json: json!({ "benchmark": "sift", "groups": args.groups, "steps": rows }),
    })
}

/// How long it takes until each core is through with its cells.
fn seconds(keys: &[CellKeys], logs: &[Vec<u8>], work: Work) -> f64 {
    let start = Barrier::new(logs.len() + 1);
    let slowest = std::thread::scope(|scope| {
        let threads: Vec<_> = logs
            .iter()
            .map(|log| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    let begun = Instant::now();
                    log.chunks_exact(DEFAULT_CELL_BYTES).for_each(|cell| work(keys, cell));
                    begun.elapsed()
                })
            })
            .collect();
        start.wait();
        let times = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        times.max().unwrap_or(Duration::ZERO)
    });
    slowest.as_secs_f64()
}
