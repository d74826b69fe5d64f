//! `tocyn post`.

use std::io::Read;
use std::path::{Path, PathBuf};

use tocyn_client::pins::meet;
use tocyn_client::post::{Resumed, Unclear, check_log, post, resume};
use tocyn_client::relay::RelayClient;
use tocyn_client::transport::ServiceUrl;
use tocyn_protocol::log::tile::MAX_ENTRY_BYTES;
use tocyn_protocol::relay::{ProvenReceipt, pack};

use crate::cli::{CliResult, Globals, session};
use crate::output::{print_done, tell};

/// One byte more than fits any cell shows that the input is too long, however long it is.
const MAX_INPUT_BYTES: u64 = MAX_ENTRY_BYTES as u64 + 1;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The relay.
    #[arg(long, value_name = "URL")]
    relay: ServiceUrl,
    /// File with the message; `-` or nothing reads standard input.
    file: Option<PathBuf>,
    /// The input is a whole cell, as another program made it: post it as it is.
    #[arg(long)]
    raw: bool,
    /// Post no new message, only send again those whose receipt has not come: each over a connection of
    /// its own, through a proxy with a random time between two of them.
    #[arg(long, conflicts_with_all = ["file", "raw"])]
    resume: bool,
    /// Pay again, with other tokens, for messages that cannot be sent with their own.
    #[arg(long, requires = "resume")]
    again: bool,
    /// Drop messages whose receipt has not come, with their tokens.
    #[arg(long, requires = "resume", conflicts_with = "again")]
    give_up: bool,
}

pub(crate) async fn run(globals: &Globals, args: Args) -> CliResult {
    let relay = globals.relay(&args.relay)?;
    if args.resume {
        return run_resume(globals, &args, &relay).await;
    }
    // Read before the wallet is opened: whoever types it does not keep others waiting.
    let input = read_input(args.file.as_deref(), MAX_INPUT_BYTES)?;
    if input.is_empty() {
        return Err("the message is empty; nothing was posted".into());
    }
    let wallet = globals.new_wallet().await?;
    let session = session(&wallet);
    let met = meet(&session, &relay, None)
        .await
        .map_err(|error| format!("{error}. Nothing was posted, saved or spent"))?;
    let cell = if args.raw { input } else { pack(&input, met.info.cell_bytes as usize)? };
    if !args.raw {
        tell(
            "everyone who reads this relay can read this message; encrypt first what is not for all",
        );
    }
    let posted = post(&session, &relay.poster()?, &met, &cell).await;
    let waiting =
        wallet.reserved(&met.pin.key).await?.iter().filter(|one| !one.is_to_group).count();
    let waiting = waiting - usize::from(posted.is_err()).min(waiting);
    if waiting > 0 {
        tell(format_args!(
            "{waiting} earlier messages have no receipt; `tocyn post --relay {} --resume` \
             sends them again, at a time of its own: with this one the relay would know both for \
             one author's",
            args.relay
        ));
    }
    let posted = posted?;
    print(globals, &posted)?;
    check_log(&session, &relay, &met.pin.key, &posted).await?;
    wallet.close().await;
    Ok(())
}

async fn run_resume(globals: &Globals, args: &Args, relay: &RelayClient) -> CliResult {
    let wallet = globals.wallet().await?;
    let session = session(&wallet);
    let met = meet(&session, relay, None).await?;
    let unclear = match (args.again, args.give_up) {
        (true, _) => Unclear::PayAgain,
        (_, true) => Unclear::GiveUp,
        _ => Unclear::Keep,
    };
    let resumed = resume(&session, relay, &met, unclear).await?;
    if resumed.is_empty() {
        tell("no message waits for its receipt");
    }
    let (mut open, mut last) = (0, None);
    for one in resumed {
        match one {
            Resumed::Posted(receipt) => {
                print(globals, &receipt)?;
                last = Some(receipt);
            }
            Resumed::GivenUp(id) => tell(format_args!("message {id} is dropped")),
            Resumed::Open(id, error) => {
                open += 1;
                tell(format_args!("message {id} has no receipt yet: {error}"));
            }
        }
    }
    if let Some(last) = last {
        check_log(&session, relay, &met.pin.key, &last).await?;
    }
    wallet.close().await;
    match open {
        0 => Ok(()),
        open => Err(format!("{open} messages have no receipt yet").into()),
    }
}

fn read_input(file: Option<&Path>, limit: u64) -> CliResult<Vec<u8>> {
    let mut input = Vec::new();
    match file {
        Some(path) if path != Path::new("-") => std::fs::File::open(path)
            .and_then(|file| file.take(limit).read_to_end(&mut input))
            .map_err(|error| format!("{}: {error}", path.display()))?,
        _ => std::io::stdin().lock().take(limit).read_to_end(&mut input)?,
    };
    Ok(input)
}

fn print(globals: &Globals, proven: &ProvenReceipt) -> CliResult {
    let (seq, id) = (proven.receipt.seq, &proven.receipt.message_id);
    let text = match globals.json() {
        true => serde_json::to_string(proven)?,
        false => format!("posted as number {seq}, id {id}"),
    };
    Ok(print_done(text, &format!("the message is posted, as number {seq}"))?)
}
