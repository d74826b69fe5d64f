//! `tocyn bench`.

mod charts;
mod crypto;
mod exhaustion;
mod floors;
mod html;
mod issuer;
mod load;
mod machine;
mod mix;
mod read;
mod relay;
mod report;
#[cfg(feature = "postgres")]
mod scratch;
mod series;
mod services;
mod sift;
mod spawn;
mod steps;
mod tokens;
mod usage;
#[cfg(feature = "versus")]
mod versus;

use crate::cli::CliResult;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// The steps of a token on this machine, without network or disk.
    Crypto(crypto::Args),
    /// What spam costs whom, under proof of work and under tokens.
    Exhaustion(exhaustion::Args),
    /// Token requests to an issuer over HTTP.
    Issuer(Box<issuer::Args>),
    /// Posts to a relay over HTTP, until they are stored on disk.
    Relay(Box<relay::Args>),
    /// Downloads from a relay, or the time until all followers have a message.
    Read(Box<read::Args>),
    /// Finding the cells of one's groups among all cells.
    Sift(sift::Args),
    /// The steps of a token beside other implementations, in one run.
    #[cfg(feature = "versus")]
    Versus(versus::Args),
}

pub(crate) async fn run(command: Command) -> CliResult {
    match command {
        Command::Crypto(args) => crypto::run(&args),
        Command::Exhaustion(args) => exhaustion::run(&args),
        Command::Issuer(args) => stoppable(issuer::run(&args)).await,
        Command::Relay(args) => stoppable(relay::run(&args)).await,
        Command::Read(args) => stoppable(read::run(&args)).await,
        Command::Sift(args) => sift::run(&args),
        #[cfg(feature = "versus")]
        Command::Versus(args) => versus::run(&args),
    }
}

/// Runs it, or drops it at the first SIGINT or SIGTERM, and with it the services that it started.
async fn stoppable(run: impl Future<Output = CliResult>) -> CliResult {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        result = run => result,
        _ = interrupt.recv() => Err("stopped by a signal".into()),
        _ = terminate.recv() => Err("stopped by a signal".into()),
    }
}
