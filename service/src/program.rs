//! The start and the end of a program.

use std::io::IsTerminal;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use crate::output::tell;

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
    let filter = match std::env::var("RUST_LOG").unwrap_or_default().trim() {
        "" => Ok(EnvFilter::new("info")),
        wanted => EnvFilter::try_new(wanted),
    };
    let filter = filter.unwrap_or_else(|error| {
        tell(format_args!("RUST_LOG cannot be used ({error}); logging at info"));
        EnvFilter::new("info")
    });
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        // With `eprintln!`, which panics if stderr cannot be written.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

/// The exit status; an error is told with all that lies behind it, where it does not say so itself.
pub fn exit(name: &str, result: Result<(), Box<dyn std::error::Error>>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    if is_broken_pipe(error.as_ref()) {
        return ExitCode::SUCCESS;
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(why) = source {
        if !text.contains(&why.to_string()) {
            text = format!("{text}: {why}");
        }
        source = why.source();
    }
    tell(format_args!("{name}: {text}"));
    ExitCode::FAILURE
}

/// Whoever reads our output, `head` for one, has had enough.
fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
