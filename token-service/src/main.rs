//! `tocyn-issuer`: hands out blinded tokens against vouchers.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tocyn_issuer::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .init();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What lies behind it, where it does not say so itself.
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(why) = source {
                if !text.contains(&why.to_string()) {
                    text = format!("{text}: {why}");
                }
                source = why.source();
            }
            eprintln!("tocyn-issuer: {text}");
            ExitCode::FAILURE
        }
    }
}
