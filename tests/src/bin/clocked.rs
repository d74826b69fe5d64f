//! The real issuer or relay by a clock that a test can step: the machine's, and as many seconds
//! more as stand in the file that `TOCYN_TEST_CLOCK` names. The first argument says which of both.

#![allow(clippy::print_stderr)]

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;

fn main() -> ExitCode {
    let file = std::env::var_os("TOCYN_TEST_CLOCK").expect("TOCYN_TEST_CLOCK names a file");
    let clock: tocyn_relay::Clock = Arc::new(move || {
        let offset: i64 = std::fs::read_to_string(&file)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0);
        (tocyn_relay::system_clock())().saturating_add_signed(offset)
    });
    let mut args = std::env::args();
    args.next();
    let result = match args.next().as_deref() {
        Some("issuer") => {
            tocyn_issuer::cli::Cli::parse_from(["tocyn-issuer".to_owned()].into_iter().chain(args))
                .run_with(clock)
        }
        Some("relay") => {
            tocyn_relay::cli::Cli::parse_from(["tocyn-relay".to_owned()].into_iter().chain(args))
                .run_with(clock)
        }
        other => panic!("issuer or relay, not {other:?}"),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
