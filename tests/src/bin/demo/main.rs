//! The demo: an issuer, a relay and a client, as separate programs that talk HTTP. Each step says
//! what it shows and how long it took; a step that shows something else ends the demo.

#![allow(clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "a demo outlives no power cut")]

mod cheat;
mod epoch;
mod report;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use report::Report;
use tocyn_e2e::programs::program;
use tocyn_e2e::service::{Service, serve};
use tocyn_e2e::world::{World, output};

type DemoResult<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// The text that is posted unless another is given.
const TEXT: &str = include_str!("../../../demo.txt");
/// Tokens that are bought, at least.
const TOKENS: usize = 256;
/// Tokens that the attempts to cheat need.
const TOKENS_FOR_CHEATS: usize = 3;

/// Buys tokens with a voucher, posts the lines of a text, reads them back, and tries to cheat.
#[derive(Parser)]
#[command(name = "cargo demo")]
struct Args {
    /// Post the lines of this file instead of the text that comes with the demo.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Leave issuer and relay running at the end, and print what to try next.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    match runtime.block_on(run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> DemoResult {
    let text = match &args.input {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}; give a text file in UTF-8", path.display()))?,
        None => TEXT.to_owned(),
    };
    // An empty message is refused: it would cost a token and say nothing.
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    println!("Tocyn demo. All programs run on this machine, on free loopback ports.");
    println!("Building the three programs, which takes some minutes the first time.\n");
    program("tocyn"); // before any step is timed
    let mut report = Report::default();

    let world = World::default();
    let (issuer, relay) = report.value("issuer and relay start, each as a process", || {
        let (issuer, relay) = start(&world);
        let said = format!("{}, {}", issuer.url(), relay.url());
        Ok(((issuer, relay), said))
    })?;

    let count = TOKENS.max(lines.len() + TOKENS_FOR_CHEATS).next_multiple_of(16);
    let voucher = report.value("the operator makes a voucher", || {
        let voucher = world.voucher(count as u64);
        Ok((voucher.clone(), format!("{voucher}, good for {count} tokens")))
    })?;
    report.step("the client buys blinded tokens with it", || {
        let urls = ["request", "--issuer", issuer.url(), "--relay", relay.url()];
        let count = count.to_string();
        tocyn(&world, &[&urls[..], &["--voucher", &voucher, "--count", &count]].concat(), None)
    })?;
    report.step("the client posts each line; each costs one token", || {
        for line in &lines {
            tocyn(&world, &["post", "--relay", relay.url()], Some(line))?;
        }
        Ok(format!("{} messages, one run of `tocyn post` for each", lines.len()))
    })?;
    report.step("anyone reads all messages back", || {
        let read = tocyn(&world, &["--json", "read", "--relay", relay.url()], None)?;
        compare(&read, &lines)
    })?;
    cheat::run(&mut report, &world, &relay).await?;
    epoch::run(&mut report).await?;

    println!("\nDone: {}.", report.summary());
    if args.keep {
        keep(world, issuer, relay);
    }
    Ok(())
}

fn start(world: &World) -> (Service, Service) {
    let start = |name: &str, data: PathBuf| {
        Service::run(serve(name, &data, "127.0.0.1:0").env("RUST_LOG", "info"), &data)
    };
    (start("tocyn-issuer", world.issuer_data()), start("tocyn-relay", world.relay_data()))
}

/// Runs `tocyn` with this input; gives what it printed.
fn tocyn(world: &World, args: &[&str], input: Option<&str>) -> DemoResult<String> {
    let mut command: Command = world.tocyn(args);
    command.stdin(Stdio::null());
    if let Some(input) = input {
        let file = world.path().join("line");
        std::fs::write(&file, input)?;
        command.stdin(std::fs::File::open(&file)?);
    }
    let output = output(&mut command);
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout)?.trim_end().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim_end().into()),
    }
}

fn compare(read: &str, lines: &[&str]) -> DemoResult<String> {
    let mut messages = Vec::new();
    for line in read.lines() {
        let message: serde_json::Value = serde_json::from_str(line)?;
        messages.push(message["text"].as_str().ok_or("a message is no text")?.to_owned());
    }
    match messages == lines {
        true => Ok(format!("{} messages, the same lines in the same order", lines.len())),
        false => Err("what was read is not what was posted".into()),
    }
}

fn keep(world: World, issuer: Service, relay: Service) {
    let (issuer_url, relay_url) = (issuer.url().to_owned(), relay.url().to_owned());
    let (issuer_id, relay_id) = (issuer.leave_running(), relay.leave_running());
    let folder = world.keep();
    let (tocyn, issuer) = (program("tocyn"), program("tocyn-issuer"));
    let (tocyn, issuer, folder) = (tocyn.display(), issuer.display(), folder.display());
    println!(
        "
Both go on running. Try:
  {tocyn} --wallet {folder}/wallet balance
  {tocyn} read --relay {relay_url} --follow
  echo hello | {tocyn} --wallet {folder}/wallet post --relay {relay_url}
  {issuer} --data {folder}/issuer voucher create --tokens 1024
  {tocyn} --wallet {folder}/wallet request --issuer {issuer_url} --relay {relay_url} --count 1024 --voucher CODE
Logs are {folder}/issuer/log and {folder}/relay/log. To end it:
  kill {issuer_id} {relay_id}; rm -r {folder}"
    );
}
