//! `tocyn mirror`.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use tocyn_client::mirror::{Mirror, Mirrored};
use tocyn_client::transport::ServiceUrl;

use crate::cli::{CliResult, Globals};
use crate::output::{stdout, tell};

/// Copies a relay's log into a folder that any file server can hand out. Readers take it with
/// `--mirror URL`; they check everything, so they need not trust it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder, empty or with an earlier copy.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The relay, or another mirror of it.
    #[arg(long, value_name = "URL")]
    relay: ServiceUrl,
    /// Go on, and look for new messages this often, as in 1m.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    every: Option<Duration>,
}

pub(crate) async fn run(globals: &Globals, args: Args) -> CliResult {
    let mirror = Mirror::new(&args.dir);
    loop {
        // With a connection of its own each time.
        let relay = globals.relay(&args.relay)?;
        let mirrored = mirror.update(&relay.log_files()?).await;
        match (&mirrored, args.every) {
            (Ok(mirrored), _) if globals.json() => {
                writeln!(stdout(), "{}", serde_json::to_string(mirrored)?)?;
            }
            (Ok(Mirrored { new, oldest, size }), _) if oldest > size => writeln!(
                stdout(),
                "{new} new messages, whose bundle the relay no longer has whole; what comes after \
                 message {size} will be here"
            )?,
            (Ok(Mirrored { new, oldest, size }), _) => {
                writeln!(stdout(), "{new} new messages; messages {oldest} to {size} are here")?;
            }
            (Err(error), Some(_)) => tell(error),
            (Err(_), None) => {}
        }
        match args.every {
            None => return mirrored.map(drop).map_err(Into::into),
            Some(every) => tokio::time::sleep(every).await,
        }
    }
}
