//! `tocyn bench issuer`.

mod requests;

use serde_json::json;
use tocyn_protocol::challenge::TokenChallenge;
use tocyn_protocol::directory::TOKEN_REQUEST_PATH;
use tocyn_protocol::media_type;

use self::requests::Requests;
use super::crypto;
use super::load::{self, Plan, Source};
use super::machine;
use super::report::{Output, Report};
use super::series::{LoadArgs, Measured, Series};
use super::services::{Needs, ServiceArgs};
use super::steps::{Implementation, Tocyn};
use super::usage::Meter;
use crate::cli::CliResult;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    services: ServiceArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Tokens in a request.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// The most requests of a run [default: 131072 tokens, or what --seconds may need].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    requests: Option<u64>,
    #[command(flatten)]
    output: Output,
}

/// Tokens of a run unless something else is asked for.
const TOKENS: u64 = 131_072;

pub(crate) async fn run(args: &Args) -> CliResult {
    args.services.check(Needs::Issuer);
    args.output.check()?;
    let batch = usize::from(args.batch);
    // Nothing else runs beside it.
    let tocyn = Tocyn::new();
    let alone = crypto::all_cores(|| tocyn.issue(batch), batch);

    let services = args.services.open().await?;
    let (issuer, address) = (services.issuer()?, services.issuer_address()?);
    let directory = issuer.directory().await?;
    let key = directory.token_keys.first().ok_or("the issuer shows no key")?.public_key()?;
    // It is blinded: an issuer cannot tell for which relay a token is.
    let challenge = TokenChallenge::new("issuer.bench", None, "relay.bench")?;

    let mut runs = Vec::new();
    let mut proofs = 0;
    for connections in args.load.connections.iter().copied().map(usize::from) {
        let count = requests_of_a_run(args, alone);
        let head = |bytes: usize| {
            format!(
                "POST {} HTTP/1.1\r\nhost: {address}\r\ncontent-type: {}\r\n\
                 content-length: {bytes}\r\nauthorization: Bearer {}\r\n\r\n",
                TOKEN_REQUEST_PATH,
                media_type::BATCH_REQUEST,
                services.voucher(),
            )
        };
        let bar = args.output.bar(count, "blinding requests");
        let requests = Requests::prepare(&key, &challenge, batch, count as usize, head, &bar)?;
        bar.finish_and_clear();
        let plan = Plan {
            addresses: std::slice::from_ref(&address),
            connections,
            rate: args.load.rate,
            seconds: args.load.seconds,
            requests: count,
        };
        let bar = args.output.bar(plan.steps(), format!("{connections} connections"));
        let meter = Meter::start(services.own.as_ref());
        let (run, requests) = load::run(&plan, requests, &bar).await?;
        let usage = meter.stop();
        bar.finish_and_clear();
        proofs += requests.check_proofs()?;
        runs.push(Measured { connections, run, usage });
    }
    let series = Series {
        kinds: Requests::KINDS,
        open: args.load.rate.is_some(),
        unit: "tokens a second",
        units: batch as f64,
        runs,
    };
    args.output.publish(&report(args, &series, alone, proofs))?;
    series.verdict()
}

/// What is prepared. An issuer of this machine cannot answer more than its cryptography can.
fn requests_of_a_run(args: &Args, alone: f64) -> u64 {
    let batch = f64::from(args.batch);
    let by_time = args.load.seconds.map(|seconds| {
        let rate = args.load.rate.unwrap_or(alone / batch);
        (rate * seconds).ceil().max(1.0) as u64
    });
    match (args.requests, by_time) {
        (Some(requests), by_time) => requests.min(by_time.unwrap_or(requests)),
        (None, Some(requests)) => requests,
        (None, None) => (TOKENS / u64::from(args.batch)).max(1),
    }
}

fn report(args: &Args, series: &Series, alone: f64, proofs: usize) -> Report {
    let batch = f64::from(args.batch);
    let tokens = |measured: &Measured| measured.per_second(0) * batch;
    let share = |measured: &Measured| tokens(measured) / alone;
    let left = |measured: &Measured| measured.usage.cores_left() / machine::cores() as f64;
    let percent = |share: f64| format!("{:.0}", share * 100.0);
    let usage = series.usage_table(["tokens/s", "% of crypto alone", "% on cores left"], |m| {
        [format!("{:.0}", tokens(m)), percent(share(m)), percent(share(m) / left(m))]
    });
    let runs = series.runs.iter().map(|measured| {
        let more = json!({
            "tokens_per_second": tokens(measured),
            "share_of_crypto": share(measured),
            "share_of_crypto_on_cores_left": share(measured) / left(measured),
        });
        series.run_json(measured, more)
    });
    let mut notes = series.notes();
    notes.push(format!(
        "Every answer that is counted as good has the right length; the proofs of {proofs} were \
         checked and are right."
    ));
    Report {
        title: "tocyn bench issuer: token requests over HTTP",
        facts: vec![
            args.services.fact(),
            args.services.durability(),
            ("batch", format!("{} tokens a request, blinded beforehand", args.batch)),
            args.load.fact(),
            ("crypto alone", format!("{alone:.0} tokens a second on all cores, same batch")),
        ],
        tables: vec![series.table(), usage],
        notes,
        charts: series.charts(),
        json: json!({
            "benchmark": "issuer",
            "settings": {
                "spawned": args.services.is_spawn(),
                "durability": args.services.durability().1,
                "batch": args.batch,
                "loop": if series.open { "open" } else { "closed" },
                "rate": args.load.rate,
                "connections": args.load.connections,
            },
            "crypto_tokens_per_second_all_cores": alone,
            "proofs_checked": proofs,
            "runs": runs.collect::<Vec<_>>(),
        }),
    }
}
