//! `tocyn bench`.

mod crypto;
mod floors;
mod load;
mod machine;
mod mix;
mod relay;
mod spawn;
mod steps;
#[cfg(feature = "versus")]
mod versus;

use crate::cli::{CliResult, Globals};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// The steps of a token on this machine, without network or disk.
    Crypto(crypto::Args),
    /// Posts to a relay over HTTP, until they are stored on disk.
    Relay(Box<relay::Args>),
    /// The steps of a token beside other implementations, in one run.
    #[cfg(feature = "versus")]
    Versus(versus::Args),
}

pub(crate) async fn run(globals: &Globals, command: Command) -> CliResult {
    match command {
        Command::Crypto(args) => crypto::run(globals, &args),
        Command::Relay(args) => relay::run(globals, &args).await,
        #[cfg(feature = "versus")]
        Command::Versus(args) => versus::run(globals, &args),
    }
}
