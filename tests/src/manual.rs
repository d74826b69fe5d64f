//! Man pages and shell completions, from what the programs' command lines are made of.

use std::fs;
use std::io::Result;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

/// The shells that completions are written for, and the names of their folders.
const SHELLS: [(Shell, &str); 3] =
    [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")];

/// The command lines of the three programs.
pub fn commands() -> [Command; 3] {
    [
        tocyn_issuer::cli::Cli::command(),
        tocyn_relay::cli::Cli::command(),
        tocyn_client::cli::Cli::command(),
    ]
}

/// Writes `PROGRAM/man/*.1`, a page for each command, and `PROGRAM/completions/SHELL/*`, under the
/// names by which shells look for them; gives the number of pages.
pub fn write(folder: &Path) -> Result<usize> {
    let mut pages = 0;
    for command in commands() {
        let name = command.get_name().to_owned();
        let folder = folder.join(&name);
        for (shell, shell_name) in SHELLS {
            let folder = folder.join("completions").join(shell_name);
            fs::create_dir_all(&folder)?;
            let file = match shell {
                Shell::Bash => name.clone(),
                Shell::Zsh => format!("_{name}"),
                _ => format!("{name}.fish"),
            };
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command.clone(), &name, &mut script);
            fs::write(folder.join(file), script)?;
        }
        let man = folder.join("man");
        fs::create_dir_all(&man)?;
        clap_mangen::generate_to(command, &man)?;
        pages += fs::read_dir(&man)?.count();
    }
    Ok(pages)
}
