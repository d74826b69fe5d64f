//! `tocyn post`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use tocyn_client::post::{Resumed, Unclear, post, resume};
use tocyn_client::transport::ServiceUrl;
use tocyn_protocol::relay::{ProvenReceipt, RelayInfo, pack};

use crate::cli::{CliResult, Globals, now};

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
    /// Post no new message, only send again those whose receipt has not come.
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
    let info = relay
        .info()
        .await
        .map_err(|error| format!("{error}. Nothing was posted, saved or spent: try again later"))?;
    // Read before the wallet is opened: whoever types it does not keep others waiting.
    let cell = if args.resume { None } else { Some(read_cell(&args, &info)?) };
    let wallet = globals.wallet().await?;
    let unclear = match (args.again, args.give_up) {
        (true, _) => Unclear::PayAgain,
        (_, true) => Unclear::GiveUp,
        _ => Unclear::Keep,
    };
    let mut open = 0;
    let earlier = resume(&wallet, &relay, &info, unclear, now()).await?;
    if args.resume && earlier.is_empty() {
        eprintln!("tocyn: no message waits for its receipt");
    }
    for resumed in earlier {
        match resumed {
            Resumed::Posted(receipt) => {
                eprintln!("tocyn: an earlier message had no receipt; it is posted now");
                print(globals, &receipt)?;
            }
            Resumed::GivenUp(id) => eprintln!("tocyn: message {id} is dropped"),
            Resumed::Open(id, error) => {
                open += 1;
                eprintln!("tocyn: earlier message {id} has no receipt yet: {error}");
            }
        }
    }
    if let Some(cell) = cell {
        print(globals, &post(&wallet, &relay, &info, &cell, now()).await?)?;
    }
    wallet.close().await;
    match args.resume && open > 0 {
        true => Err(format!("{open} messages have no receipt yet").into()),
        false => Ok(()),
    }
}

fn read_cell(args: &Args, info: &RelayInfo) -> CliResult<Vec<u8>> {
    // One byte more than fits shows that the input is too long, however long it is.
    let input = read_input(args.file.as_deref(), info.cell_bytes + 1)?;
    if args.raw {
        return Ok(input);
    }
    if input.is_empty() {
        return Err("the message is empty; nothing was posted".into());
    }
    eprintln!(
        "tocyn: everyone who reads this relay can read this message; encrypt first what is not \
         for all"
    );
    Ok(pack(&input, info.cell_bytes as usize)?)
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
    let mut out = std::io::stdout().lock();
    match globals.json() {
        true => writeln!(out, "{}", serde_json::to_string(proven)?)?,
        false => writeln!(
            out,
            "posted as number {}, id {}",
            proven.receipt.seq, proven.receipt.message_id
        )?,
    }
    Ok(())
}
