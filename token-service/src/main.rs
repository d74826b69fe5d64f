//! `tocyn-issuer`: hands out blinded tokens against vouchers.

use std::process::ExitCode;

use clap::Parser;
use tocyn_issuer::cli::Cli;
use tocyn_service::program::{exit, start_log};

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(cli.log);
    exit("tocyn-issuer", cli.run())
}
