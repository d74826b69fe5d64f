//! `tocyn`: buys tokens, posts to a relay and reads it.

use std::process::ExitCode;

use clap::Parser;
use tocyn_client::cli::Cli;
use tocyn_client::output::tell;
use tocyn_client::printable::Printable;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(error.as_ref()) => ExitCode::SUCCESS,
        Err(error) => {
            // Some of it may be the words of others.
            error.to_string().lines().for_each(|line| tell(Printable(line)));
            ExitCode::FAILURE
        }
    }
}

/// Whoever reads our output, `head` for one, has had enough.
fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
