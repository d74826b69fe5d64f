//! Writes the man pages and shell completions of the three programs into a folder, for packages:
//!
//! ```text
//! cargo run -p tocyn-e2e --bin manual -- DIR
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Write the man pages and shell completions of all programs.
#[derive(Parser)]
struct Args {
    /// Where to: a folder for each program, with man/*.1 and completions/{bash,zsh,fish}/*.
    folder: PathBuf,
}

fn main() -> ExitCode {
    let folder = Args::parse().folder;
    match tocyn_e2e::manual::write(&folder) {
        Ok(pages) => {
            println!("wrote {pages} pages and the completions into {}", folder.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("manual: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}
