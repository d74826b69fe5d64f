//! `tocyn post`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use tocyn_client::post::{post, resume};
use tocyn_client::transport::ServiceUrl;
use tocyn_protocol::relay::{PostReceipt, pack};

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
}

pub(crate) async fn run(globals: &Globals, args: Args) -> CliResult {
    let relay = globals.relay(&args.relay)?;
    let info = relay.info().await?;
    let wallet = globals.wallet(now()).await?;
    for receipt in resume(&wallet, &relay, &info, now()).await? {
        eprintln!("tocyn: an earlier message had no receipt; it is posted now");
        print(globals, &receipt)?;
    }
    if !args.resume {
        // One byte more than fits shows that the input is too long, however long it is.
        let input = read_input(args.file.as_deref(), info.cell_bytes + 1)?;
        let cell = match args.raw {
            true => input,
            false => {
                eprintln!(
                    "tocyn: everyone who reads this relay can read this message; encrypt first what is not for all"
                );
                pack(&input, info.cell_bytes as usize)?
            }
        };
        print(globals, &post(&wallet, &relay, &info, &cell, now()).await?)?;
    }
    wallet.close().await;
    Ok(())
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

fn print(globals: &Globals, receipt: &PostReceipt) -> CliResult {
    let mut out = std::io::stdout().lock();
    match globals.json {
        true => writeln!(out, "{}", serde_json::to_string(receipt)?)?,
        false => writeln!(out, "posted as number {}, id {}", receipt.seq, receipt.message_id)?,
    }
    Ok(())
}
