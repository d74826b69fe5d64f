//! `doctor`: is all as it should be, and what to do where it is not.

mod pair;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::metrics::free_bytes;
use crate::output;
use crate::page;
use crate::secret::Secret;

pub use pair::{KeysAt, ListensOn, Standing};

/// Less free space than this is trouble soon.
const LOW_BYTES: u64 = 1_000_000_000;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Good,
    /// It works, but somebody should look.
    Warning,
    /// It does not work, or is not safe.
    Bad,
}

/// What one check found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What is the case, and what to do.
    pub text: String,
}

/// All findings.
#[derive(Debug, Default)]
pub struct Report(Vec<Finding>);

impl Report {
    /// As it should be.
    pub fn good(&mut self, check: &'static str, text: impl Into<String>) {
        self.0.push(Finding { check, level: Level::Good, text: text.into() });
    }

    /// Somebody should look.
    pub fn warn(&mut self, check: &'static str, text: impl Into<String>) {
        self.0.push(Finding { check, level: Level::Warning, text: text.into() });
    }

    /// It does not work.
    pub fn bad(&mut self, check: &'static str, text: impl Into<String>) {
        self.0.push(Finding { check, level: Level::Bad, text: text.into() });
    }

    /// Notes what a check found, or why it failed.
    pub fn note<T: Into<String>, E: ToString>(&mut self, check: &'static str, found: Result<T, E>) {
        match found {
            Ok(text) => self.good(check, text),
            Err(error) => self.bad(check, error.to_string()),
        }
    }

    /// The same for all secrets of a data folder: pairings (those that were replaced are kept),
    /// keys and credentials, the database's file, and the settings where they hold one of `set`.
    pub fn check_secrets(&mut self, folder: &Path, database: Option<&Path>, set: &[&Secret]) {
        let listed = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let names = ["pairing.toml", "log.key", "admin.credential"];
        let is_secret = |name: &str| names.iter().any(|secret| name.starts_with(secret));
        let named = listed.filter(|file| file.file_name().to_str().is_some_and(is_secret));
        let mut secrets: Vec<PathBuf> = named.map(|file| file.path()).collect();
        if let Some(database) = database {
            secrets.extend(["", "-wal", "-shm"].map(|end| beside(database, end)));
        }
        secrets.extend(set.iter().filter_map(|secret| secret.file()).map(Path::to_owned));
        let is_in_settings = |secret: &&&Secret| {
            secret.is_literal() && secret.read().is_ok_and(|text| is_secret_text(&text))
        };
        secrets.extend(set.iter().find(is_in_settings).map(|_| folder.join("config.toml")));
        secrets.sort();
        let secrets: Vec<&Path> = secrets.iter().map(PathBuf::as_path).collect();
        self.check_permissions(folder, &secrets);
    }

    /// Whether others than the owner can read these files; those that are not there are passed over.
    pub fn check_permissions(&mut self, folder: &Path, secrets: &[&Path]) {
        let check = "permissions";
        if !folder.exists() {
            let text =
                format!("{} is not there: `init` makes it, if --data is right", folder.display());
            return self.bad(check, text);
        }
        let before = self.0.len();
        let mut look = |path: &Path, what: &str, command: &str| {
            let Ok(metadata) = std::fs::metadata(path) else { return };
            let mode = metadata.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                let text = format!(
                    "{}: {what} (mode {mode:o}); run: {command} {}",
                    path.display(),
                    path.display()
                );
                self.0.push(Finding { check, level: Level::Bad, text });
            }
            if metadata.uid() != rustix::process::getuid().as_raw() {
                let text = format!(
                    "{} belongs to another user (uid {}); run this as the user that serves",
                    path.display(),
                    metadata.uid()
                );
                self.0.push(Finding { check, level: Level::Warning, text });
            }
        };
        look(folder, "others can enter the data folder", "chmod 700");
        for path in secrets {
            look(path, "others can read this secret", "chmod 600");
        }
        if self.0.len() == before {
            self.good(
                check,
                format!("only its owner can read {} and what is in it", folder.display()),
            );
        }
    }

    /// Whether there is space left where these are.
    pub fn check_space(&mut self, path: &Path) {
        let check = "space";
        if !path.exists() {
            return; // which is said already
        }
        match free_bytes(path) {
            Ok(free) if free < LOW_BYTES => self.warn(
                check,
                format!(
                    "{}: only {} are left; make room before posts are refused",
                    path.display(),
                    page::bytes(free)
                ),
            ),
            Ok(free) => {
                self.good(check, format!("{}: {} are left", path.display(), page::bytes(free)))
            }
            Err(error) => self.bad(check, format!("{}: {error}", path.display())),
        }
    }

    /// Prints all; an error if anything is bad.
    pub fn print(self, json: bool) -> Result<(), Box<dyn std::error::Error>> {
        let line = |Finding { check, level, text }: &Finding| {
            let level = match level {
                Level::Good => "ok  ",
                Level::Warning => "LOOK",
                Level::Bad => "BAD ",
            };
            format!("{level}  {check:<12} {text}")
        };
        output::print(match json {
            true => serde_json::to_string(&self.0)?,
            false => self.0.iter().map(line).collect::<Vec<_>>().join("\n"),
        })?;
        match self.0.iter().filter(|finding| finding.level == Level::Bad).count() {
            0 => Ok(()),
            1 => Err("one thing is not as it must be, see above".into()),
            bad => Err(format!("{bad} things are not as they must be, see above").into()),
        }
    }
}

/// The path with this at its end.
pub(crate) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Whether this must not be read by others: all but a URL without a password.
fn is_secret_text(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return true };
    let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let user = place.rsplit_once('@').map_or("", |(user, _)| user);
    user.contains(':') || parameters.split('&').any(|pair| pair.starts_with("password="))
}
