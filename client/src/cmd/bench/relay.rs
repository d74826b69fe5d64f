//! `tocyn bench relay`.

pub(crate) mod posts;

use serde_json::json;

use self::posts::Posts;
use super::floors::Floors;
use super::load::{self, Plan, Source};
use super::mix::{Kind, Mix};
use super::report::{Output, Report, number};
use super::series::{LoadArgs, Measured, Series};
use super::services::{Needs, ServiceArgs};
use super::tokens::Shop;
use super::usage::Meter;
use crate::cli::CliResult;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    services: ServiceArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// The most requests of a run [default: 40000, or what --seconds may need].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    posts: Option<u64>,
    /// What is sent: shares of valid, retry, double, invalid, reject, healthz.
    #[arg(long, default_value = "valid=1", value_name = "SHARES")]
    mix: Mix,
    #[command(flatten)]
    output: Output,
}

/// Requests of a run unless something else is asked for.
const POSTS: u64 = 40_000;

pub(crate) async fn run(args: &Args) -> CliResult {
    args.services.check(Needs::Both);
    args.output.check()?;
    let services = args.services.open().await?;
    let shop = Shop::open(&services).await?;
    let addresses = services.relay_addresses()?;
    let cell_bytes = shop.info.cell_bytes as usize;
    // What a transaction can hold at most: one post of each connection.
    let batch = args.load.connections.iter().copied().max().unwrap_or(1).into();
    // Nothing else runs beside the floors.
    let floors =
        Floors::measure(&args.services.folder, services.database(), batch, cell_bytes).await?;

    let limits = limits(args, &floors);
    let mut runs = Vec::new();
    for connections in args.load.connections.iter().copied().map(usize::from) {
        let bar = args.output.bar(0, "preparing tokens");
        let posts =
            Posts::prepare(&shop, &addresses[0], args.mix, limits, connections, &bar).await?;
        bar.finish_and_clear();
        let plan = Plan {
            addresses: &addresses,
            connections,
            rate: args.load.rate,
            seconds: args.load.seconds,
            requests: limits.0,
        };
        let bar = args.output.bar(plan.steps(), format!("{connections} connections"));
        let meter = Meter::start(services.own.as_ref());
        let (run, _) = load::run(&plan, posts, &bar).await?;
        let usage = meter.stop();
        bar.finish_and_clear();
        runs.push(Measured { connections, run, usage });
    }
    let series = Series {
        kinds: Posts::KINDS,
        open: args.load.rate.is_some(),
        unit: "requests a second",
        units: 1.0,
        runs,
    };
    args.output.publish(&report(args, &series, &floors, cell_bytes))?;
    series.verdict()
}

/// The most requests of a run, and the most tokens that they can use.
fn limits(args: &Args, floors: &Floors) -> (u64, u64) {
    let by_rate = args.load.rate.zip(args.load.seconds).map(|(rate, s)| (rate * s).ceil() as u64);
    match (args.posts, by_rate, args.load.seconds) {
        (Some(posts), by_rate, _) => (posts.min(by_rate.unwrap_or(posts)), posts),
        (None, Some(requests), _) => (requests, requests),
        (None, None, None) => (POSTS, POSTS),
        // More valid posts than the floors allow on all cores cannot be stored on this machine.
        (None, None, Some(seconds)) => {
            let tokens = (floors.allowed(super::machine::cores() as f64) * seconds).ceil();
            match args.mix.has(Kind::Valid) {
                true => ((tokens / args.mix.part(Kind::Valid)).ceil() as u64, tokens as u64),
                false => (u64::MAX, 0),
            }
        }
    }
}

fn report(args: &Args, series: &Series, floors: &Floors, cell_bytes: usize) -> Report {
    let mix = args.mix.text();
    let only_valid = args.mix.part(Kind::Valid) == 1.0;
    let valid = Kind::Valid as usize;
    let allowed = |measured: &Measured| floors.allowed(measured.usage.cores_left());
    let share = |measured: &Measured| match only_valid && measured.usage.cores()[1].is_some() {
        true => Some(measured.per_second(valid) / allowed(measured)),
        false => None, // other kinds take their part of the cores, or the relay is elsewhere
    };
    let usage = series.usage_table(["relay us/request", "relay peak MB", "% of floor"], |m| {
        let peak = m.usage.relay_peak_bytes.map(|bytes| bytes as f64 / 1e6);
        [
            number(m.usage.relay_us(m.run.answers()), 1),
            number(peak, 1),
            number(share(m).map(|share| share * 100.0), 0),
        ]
    });
    let mut notes = series.notes();
    notes.extend(series.runs.iter().filter_map(|measured| {
        Some(format!(
            "{} connections: {:.0} posts a second are {:.0}% of the slower floor on the cores left \
             over, which is {:.0}.",
            measured.connections,
            measured.per_second(valid),
            share(measured)? * 100.0,
            allowed(measured)
        ))
    }));
    let runs: Vec<_> = series
        .runs
        .iter()
        .map(|measured| {
            let more = json!({
                "stored_per_second": measured.per_second(valid),
                "allowed_per_second": allowed(measured),
                "share_of_floor": share(measured),
            });
            series.run_json(measured, more)
        })
        .collect();
    Report {
        title: "tocyn bench relay: posts over HTTP, until they are stored",
        facts: vec![
            args.services.fact(),
            args.services.durability(),
            ("cells", format!("{cell_bytes} bytes")),
            ("mix", mix.clone()),
            args.load.fact(),
            (
                "floor: crypto",
                format!("{:.0} tokens a second redeemed by one core", floors.redeems_per_core),
            ),
            (
                "floor: rows",
                format!(
                    "{:.0} posts a second stored by {} alone, which kept {:.2} cores busy",
                    floors.inserts,
                    args.services.database_name(),
                    floors.inserts_cores
                ),
            ),
        ],
        tables: vec![series.table(), usage],
        notes,
        charts: series.charts(),
        json: json!({
            "benchmark": "relay",
            "settings": {
                "spawned": args.services.is_spawn(),
                "relays": args.services.relays(),
                "database": args.services.database_name(),
                "durability": args.services.durability().1,
                "cell_bytes": cell_bytes,
                "mix": mix,
                "loop": if series.open { "open" } else { "closed" },
                "rate": args.load.rate,
                "connections": args.load.connections,
            },
            "floors": floors.to_json(),
            "runs": runs,
        }),
    }
}
