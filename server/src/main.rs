//! `tocyn-relay`: redeems one token per posted message, and serves every message to everyone.

use std::process::ExitCode;

use clap::Parser;
use tocyn_relay::cli::Cli;
use tocyn_service::program::{exit, start_log};

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(cli.log);
    exit("tocyn-relay", cli.run())
}
