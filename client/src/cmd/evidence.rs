//! `tocyn evidence`.

use std::io::Read;
use std::path::PathBuf;

use serde_json::json;
use tocyn_client::evidence::{Evidence, MAX_FILE_BYTES, Verdict};
use tocyn_protocol::log::note::VerifierKey;

use crate::cli::{CliResult, Globals};
use crate::output::{print, tell};

/// Evidence against relays.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Check a file, whoever made it, and say what it shows. Asks nobody. The status is 0 only if the
    /// relay's own signatures show it.
    Verify {
        /// The file; `-` reads standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The relay's verifier key, as `tocyn info` or an invite shows it: without it, make sure by
        /// yourself that the key in the file is the relay's.
        #[arg(long, value_name = "KEY")]
        key: Option<VerifierKey>,
    },
}

pub(crate) fn run(globals: &Globals, command: Command) -> CliResult {
    let Command::Verify { file, key } = command;
    let mut text = Vec::new();
    let limit = MAX_FILE_BYTES as u64;
    match file.to_str() {
        Some("-") => std::io::stdin().lock().take(limit).read_to_end(&mut text)?,
        _ => std::fs::File::open(&file)
            .and_then(|file| file.take(limit).read_to_end(&mut text))
            .map_err(|error| format!("{}: {error}", file.display()))?,
    };
    let evidence = Evidence::from_json(&text)?;
    if key.is_none() {
        tell(format_args!(
            "make sure that this is the key of the relay it is about: {}",
            evidence.log_key
        ));
    }
    if key.is_some_and(|key| key != evidence.log_key) {
        return Err(format!("it is about another relay's log: {}", evidence.log_key).into());
    }
    let verdict = evidence.verify()?;
    let proven = matches!(verdict, Verdict::Proven(_));
    match globals.json() {
        true => {
            let (Verdict::Proven(what) | Verdict::Witnessed(what)) = verdict;
            let (kind, key) = (evidence.kind(), &evidence.log_key);
            print(json!({ "log_key": key, "fault": kind, "proven": proven, "what": what }))?;
        }
        false => print(format_args!("{}\n{verdict}", evidence.log_key))?,
    }
    match proven {
        true => Ok(()),
        false => Err("this is not proven by signatures alone; see above".into()),
    }
}
