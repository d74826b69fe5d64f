//! The start and the end of a program.

use std::io::IsTerminal;
use std::process::ExitCode;

/// The commit that this was built from.
pub const COMMIT: &str = env!("TOCYN_COMMIT");
/// For `--version`.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("TOCYN_COMMIT"), ")");

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Logs to stderr, as `RUST_LOG` says.
pub fn start_log(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter.unwrap_or_else(|_| "info".into()));
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

/// The exit status; an error is told with all that lies behind it, where it does not say so itself.
pub fn exit(name: &str, result: Result<(), Box<dyn std::error::Error>>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(why) = source {
        if !text.contains(&why.to_string()) {
            text = format!("{text}: {why}");
        }
        source = why.source();
    }
    eprintln!("{name}: {text}");
    ExitCode::FAILURE
}
