//! What packages ship beside the programs: a man page for each command, and completions.

use std::path::Path;

use clap::Command;
use tocyn_e2e::manual;

/// The names of the pages of a command and of all below it that are not hidden.
fn names(command: &Command, name: &str, names: &mut Vec<String>) {
    names.push(name.to_owned());
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        self::names(below, &format!("{name}-{}", below.get_name()), names);
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_command_has_a_page_and_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    let pages = manual::write(dir.path()).unwrap();
    let mut expected = 0;
    for command in manual::commands() {
        let program = command.get_name();
        let folder = dir.path().join(program);
        for file in ["bash/{}", "zsh/_{}", "fish/{}.fish"] {
            let path = folder.join("completions").join(file.replace("{}", program));
            let script = read(&path);
            for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
                assert!(script.contains(below.get_name()), "{}", path.display());
            }
        }
        let mut all = Vec::new();
        names(&command, program, &mut all);
        for name in &all {
            let page = read(&folder.join("man").join(format!("{name}.1")));
            assert!(
                page.contains(".SH SYNOPSIS") && page.contains(".SH OPTIONS"),
                "{name}: {page}"
            );
        }
        assert!(all.len() > 10, "{all:?}");
        expected += all.len();
    }
    assert_eq!(pages, expected);
}
