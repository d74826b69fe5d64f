//! Builds the three programs in the profile that this one was built in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Path of a program of this workspace.
///
/// # Panics
/// If it does not build.
pub fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(build).join(name)
}

fn build() -> PathBuf {
    let this = std::env::current_exe().expect("a program knows its path");
    let folder = this.ancestors().skip(1).find(|dir| !dir.ends_with("deps"));
    let folder = folder.expect("cargo puts programs into a folder").to_owned();
    // What runs from a release build is the demo: its programs are as users have them. Tests
    // take what ./test has built: without `--tests` it would be built again, with other features.
    let what: &[&str] = match folder.ends_with("release") {
        true => &["--release"],
        false => &["--all-features", "--tests"],
    };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Cargo says about which package this program is of. Build scripts heed that, ring's for one,
    // and would build it all again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    let status = cargo
        .args(["build", "--workspace", "--bins", "--locked", "--quiet"])
        .args(what)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .env("CARGO_TARGET_DIR", folder.parent().expect("the target folder"))
        .status()
        .expect("cargo can be run");
    assert!(status.success(), "the programs do not build");
    folder
}
