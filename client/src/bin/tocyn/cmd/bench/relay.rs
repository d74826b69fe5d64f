//! `tocyn bench relay`.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use getrandom::SysRng;
use hyper::body::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use rand_core::{Rng, UnwrapErr};
use serde_json::{Value, json};
use tocyn_client::issuer::IssuerClient;
use tocyn_client::keys::{Agreed, agree};
use tocyn_client::transport::{ServiceUrl, Transport};
use tocyn_protocol::issuance::AmortizedBatchTokenRequest;
use tocyn_protocol::redemption::BoundToken;
use tocyn_protocol::relay::MessageId;
use tocyn_protocol::token::Token;

use super::load::{Post, Run, closed_loop};
use super::mix::{Mix, Sort};
use super::{floors, machine, spawn};
use crate::cli::{CliResult, Globals};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Start an issuer and a relay of its own, with defaults, on this machine.
    #[arg(long, conflicts_with_all = ["issuer", "relay", "voucher"])]
    spawn: bool,
    /// A running issuer.
    #[arg(long, value_name = "URL", required_unless_present = "spawn")]
    issuer: Option<ServiceUrl>,
    /// A running relay, over plain HTTP.
    #[arg(long, value_name = "URL", required_unless_present = "spawn")]
    relay: Option<ServiceUrl>,
    /// A voucher that pays for all tokens.
    #[arg(long, value_name = "CODE", required_unless_present = "spawn")]
    voucher: Option<String>,
    /// Posts in all.
    #[arg(long, default_value_t = 40_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    posts: u64,
    /// Connections, each with one post at a time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: u16,
    /// What is posted.
    #[arg(long, default_value = "valid=100", value_name = "SHARES")]
    mix: Mix,
    /// Folder for the databases of --spawn and of the floor; the disk counts.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
}

/// Tokens in one request.
const BATCH: usize = 256;

pub(crate) async fn run(globals: &Globals, args: &Args) -> CliResult {
    // Floors first: nothing else may run beside them.
    let crypto = floors::redeems_per_second();
    let own = match args.spawn {
        true => Some(spawn::pair(&args.folder, args.posts.next_multiple_of(BATCH as u64))?),
        false => None,
    };
    let (issuer, relay, voucher) = match &own {
        Some(pair) => (pair.issuer_url.parse()?, pair.relay_url.parse()?, pair.voucher.clone()),
        None => {
            let given = "clap saw to it";
            (
                args.issuer.clone().expect(given),
                args.relay.clone().expect(given),
                args.voucher.clone().expect(given),
            )
        }
    };
    let issuer = IssuerClient::new(&Transport::default(), issuer)?;
    let relay_url: ServiceUrl = relay;
    let agreed = agree(&issuer, &globals.relay(&relay_url)?).await?;
    let cell_bytes = agreed.info.cell_bytes as usize;
    let inserts =
        floors::inserts_per_second(&args.folder, args.connections.into(), cell_bytes).await?;

    let sorts: Vec<Sort> = (0..args.posts).map(|n| args.mix.sort(n)).collect();
    let tokens = sorts.iter().filter(|sort| matches!(sort, Sort::Valid | Sort::Invalid)).count();
    let bar = progress(tokens as u64, "preparing tokens", globals.json);
    let tokens = buy(&issuer, &agreed, &voucher, tokens, &bar).await?;
    bar.finish_and_clear();
    let posts =
        prepare(&sorts, tokens, &agreed.pair.relay_name, cell_bytes, args.connections.into());
    let address = relay_url.to_string();
    let address = address.strip_prefix("http://").ok_or("the relay must be reached by http://")?;
    let bar = progress(args.posts, "posting", globals.json);
    let run = closed_loop(address, args.connections.into(), posts, bar.clone()).await?;
    bar.finish_and_clear();
    let memory = own.as_ref().and_then(|pair| peak_memory(pair.relay_id));
    report(globals, args, &run, crypto, inserts, cell_bytes, memory)?;
    match run.wrong.first() {
        None => Ok(()),
        Some((sort, status)) => Err(format!(
            "{} answers were wrong, the first: {} posts must get {}, one got {status}",
            run.wrong.len(),
            sort.name(),
            sort.status()
        )
        .into()),
    }
}

async fn buy(
    issuer: &IssuerClient,
    agreed: &Agreed,
    voucher: &str,
    count: usize,
    bar: &ProgressBar,
) -> CliResult<Vec<Token>> {
    let (challenge, mut tokens) = (agreed.pair.challenge()?, Vec::with_capacity(count + BATCH));
    while tokens.len() < count {
        let rng = &mut UnwrapErr(SysRng);
        let (request, pending) =
            AmortizedBatchTokenRequest::new(&agreed.key.key, &challenge, BATCH, rng)?;
        let answer = issuer.send(&agreed.request_url, voucher, &request).await?;
        tokens.extend(pending.finalize(&answer)?);
        bar.set_position(tokens.len() as u64);
    }
    Ok(tokens)
}

/// The posts of each connection. A retry or a double repeats the connection's last valid post.
fn prepare(
    sorts: &[Sort],
    tokens: Vec<Token>,
    relay_name: &str,
    cell_bytes: usize,
    connections: usize,
) -> Vec<Vec<Post>> {
    let mut posts: Vec<Vec<Post>> = vec![Vec::new(); connections];
    let mut last: Vec<Option<(Token, Post)>> = vec![None; connections];
    let mut tokens = tokens.into_iter();
    let fresh_cell = || {
        let mut cell = vec![0; cell_bytes];
        UnwrapErr(SysRng).fill_bytes(&mut cell);
        Bytes::from(cell)
    };
    let bind = |token: &Token, cell: &Bytes| {
        BoundToken::new(token, relay_name, &MessageId::of(cell)).header_value()
    };
    for (n, sort) in sorts.iter().enumerate() {
        let connection = n % connections;
        let post = match (sort, &last[connection]) {
            (Sort::Retry, Some((_, post))) => Post { sort: Sort::Retry, ..post.clone() },
            (Sort::Double, Some((token, _))) => {
                let cell = fresh_cell();
                Post { sort: Sort::Double, authorization: bind(token, &cell), cell }
            }
            (Sort::Invalid, _) => {
                let Some(token) = tokens.next() else { continue };
                let authorization = bind(&token, &fresh_cell());
                Post { sort: Sort::Invalid, authorization, cell: fresh_cell() }
            }
            // Nothing to repeat yet, or a valid one.
            _ => {
                let Some(token) = tokens.next() else { continue };
                let cell = fresh_cell();
                let post = Post { sort: Sort::Valid, authorization: bind(&token, &cell), cell };
                last[connection] = Some((token, post.clone()));
                post
            }
        };
        posts[connection].push(post);
    }
    posts
}

fn progress(total: u64, what: &'static str, quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len}, {per_sec}")
        .expect("the template is well formed");
    ProgressBar::new(total).with_style(style).with_message(what)
}

/// The most memory that a process has held, in bytes.
fn peak_memory(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

fn report(
    globals: &Globals,
    args: &Args,
    run: &Run,
    crypto: f64,
    inserts: f64,
    cell_bytes: usize,
    memory: Option<u64>,
) -> CliResult {
    let seconds = run.took.as_secs_f64();
    let total: u64 = run.answers.iter().sum();
    let stored = run.answers[Sort::Valid as usize] as f64 / seconds;
    let quantile = |q| run.latency_us.value_at_quantile(q);
    let mut out = std::io::stdout().lock();
    if globals.json {
        let answers: serde_json::Map<String, Value> = Sort::ALL
            .iter()
            .map(|sort| (sort.name().to_owned(), json!(run.answers[*sort as usize])))
            .collect();
        let report = json!({
            "machine": machine::describe(),
            "connections": args.connections, "cell_bytes": cell_bytes, "mix": args.mix.text(),
            "durability": "sqlite WAL, synchronous=FULL, answered after the commit",
            "seconds": seconds, "posts_per_second": total as f64 / seconds,
            "stored_per_second": stored, "answers": answers, "wrong": run.wrong.len(),
            "latency_us": { "p50": quantile(0.5), "p99": quantile(0.99), "p999": quantile(0.999) },
            "floors": { "redeems_per_second_1_core": crypto, "inserts_per_second": inserts },
            "relay_peak_bytes": memory,
        });
        writeln!(out, "{report}")?;
        return Ok(());
    }
    writeln!(out, "{}", machine::line())?;
    writeln!(
        out,
        "{} connections, closed loop; cells of {cell_bytes} bytes; {}",
        args.connections,
        args.mix.text()
    )?;
    writeln!(out, "durable: answered after SQLite's commit (WAL, synchronous=FULL)\n")?;
    writeln!(out, "posts a second       {:>10.0}", total as f64 / seconds)?;
    writeln!(out, "stored a second      {stored:>10.0}")?;
    for (name, q) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        writeln!(out, "{name:<20} {:>10.2} ms", quantile(q) as f64 / 1e3)?;
    }
    writeln!(out, "floor: redeem alone  {crypto:>10.0} a second, 1 core")?;
    writeln!(
        out,
        "floor: inserts alone {inserts:>10.0} a second, {} in a transaction",
        args.connections
    )?;
    if let Some(bytes) = memory {
        writeln!(out, "relay's peak memory  {:>10.1} MB", bytes as f64 / 1e6)?;
    }
    Ok(())
}
