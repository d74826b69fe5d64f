//! The data folder: its files, all at mode 0600, and errors that name file, line and key.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use getrandom::SysRng;
use rand_core::UnwrapErr;
use serde::de::DeserializeOwned;
use tocyn_protocol::log::note::LogKey;
use tocyn_protocol::pairing::Pairing;

use crate::config::Config;

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// A file operation failed.
    #[error("{path}: {source}{hint}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
        /// What to do about it.
        hint: &'static str,
    },
    /// A file does not say what it should.
    #[error("{path}: {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, key and what is wrong.
        reason: String,
    },
    /// Another process serves this folder.
    #[error(
        "{0} is in use by another tocyn-relay; stop all that use it first, or use another --data folder"
    )]
    InUse(PathBuf),
}

/// A data folder.
#[derive(Clone, Debug)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// The folder at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Makes the folder, mode 0700, if it is not there.
    pub fn create(&self) -> Result<(), DataDirError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(|source| io(&self.0, source, ""))
    }

    /// `config.toml`.
    pub fn config_path(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    /// `pairing.toml`.
    pub fn pairing_path(&self) -> PathBuf {
        self.0.join("pairing.toml")
    }

    /// `log.key`.
    pub fn log_key_path(&self) -> PathBuf {
        self.0.join("log.key")
    }

    /// Reads `log.key`, with which this relay signs its log; makes it if it is not there.
    pub fn log_key(&self, relay_name: &str) -> Result<LogKey, DataDirError> {
        let path = self.log_key_path();
        if !path.exists() {
            self.make_log_key(&path, relay_name).map_err(|source| io(&path, source, ""))?;
        }
        let text = fs::read_to_string(&path).map_err(|source| io(&path, source, ""))?;
        let text = zeroize::Zeroizing::new(text);
        let invalid = |reason| DataDirError::Invalid { path: path.clone(), reason };
        let key =
            LogKey::from_secret_text(text.trim()).map_err(|error| invalid(error.to_string()))?;
        match key.name() == relay_name {
            true => Ok(key),
            false => Err(invalid(format!("it is of relay {}, not of {relay_name}", key.name()))),
        }
    }

    /// Whole or not at all, and never in place of one that another process has just made.
    fn make_log_key(&self, path: &Path, relay_name: &str) -> std::io::Result<()> {
        let key = LogKey::generate(relay_name, &mut UnwrapErr(SysRng)).to_secret_text();
        let fresh = self.0.join(format!("log.key.{}", std::process::id()));
        let _ = fs::remove_file(&fresh); // left by a crash
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(key.as_bytes())?;
        file.sync_all()?;
        let linked = fs::hard_link(&fresh, path);
        fs::remove_file(&fresh)?;
        match linked {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => File::open(&self.0)?.sync_all(),
        }
    }

    /// `log`, a folder.
    pub fn log_folder_path(&self) -> PathBuf {
        self.0.join("log")
    }

    /// `relay.sqlite`.
    pub fn database_path(&self) -> PathBuf {
        self.0.join("relay.sqlite")
    }

    /// Reads `config.toml`.
    pub fn config(&self) -> Result<Config, DataDirError> {
        let path = self.config_path();
        let config: Config = read_toml(&path)?;
        config.validate().map_err(|reason| DataDirError::Invalid { path, reason })?;
        Ok(config)
    }

    /// Reads `pairing.toml`.
    pub fn pairing(&self) -> Result<Pairing, DataDirError> {
        read_pairing(&self.pairing_path())
    }

    /// Puts a copy of the pairing file at `from` in place of the one that is there, if any.
    /// The names must stay: clients know the relay by them, and they are in every token.
    pub fn install_pairing(&self, from: &Path) -> Result<(), DataDirError> {
        let pairing = read_pairing(from)?;
        if self.pairing_path().exists() {
            let old = self.pairing()?;
            if (old.issuer_name(), old.relay_name())
                != (pairing.issuer_name(), pairing.relay_name())
            {
                let reason = format!(
                    "it is for relay {} and issuer {}, but this relay is {} with issuer {}; make a \
                     new data folder for other names",
                    pairing.relay_name(),
                    pairing.issuer_name(),
                    old.relay_name(),
                    old.issuer_name()
                );
                return Err(DataDirError::Invalid { path: from.to_owned(), reason });
            }
        }
        let text = fs::read_to_string(from).map_err(|source| io(from, source, ""))?;
        let text = zeroize::Zeroizing::new(text);
        let (fresh, path) = (self.0.join("pairing.toml.new"), self.pairing_path());
        let _ = fs::remove_file(&fresh); // left by a crash
        create(&fresh, text.as_bytes())?;
        fs::rename(&fresh, &path).map_err(|source| io(&path, source, ""))
    }

    /// Takes the folder for this process alone, until the returned file is dropped.
    pub fn lock(&self) -> Result<File, DataDirError> {
        self.lock_with(File::try_lock)
    }

    /// Takes the folder beside others that do the same: its files stay as they are meanwhile.
    pub fn lock_shared(&self) -> Result<File, DataDirError> {
        self.lock_with(File::try_lock_shared)
    }

    fn lock_with(
        &self,
        try_lock: impl Fn(&File) -> Result<(), fs::TryLockError>,
    ) -> Result<File, DataDirError> {
        let path = self.0.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| io(&path, source, INIT_HINT))?;
        match try_lock(&file) {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(DataDirError::InUse(self.0.clone())),
            Err(fs::TryLockError::Error(source)) => Err(io(&path, source, "")),
        }
    }
}

const INIT_HINT: &str = "; make the data folder with `tocyn-relay --data DIR init --pairing FILE` first, with the \
     pairing.toml that `tocyn-issuer init` wrote";

/// Creates a file of mode 0600 with these bytes; refuses to overwrite.
pub fn create(path: &Path, bytes: &[u8]) -> Result<(), DataDirError> {
    let write = |path: &Path| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write(path).map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => io(path, source, "; it is not overwritten, move it away first"),
        _ => io(path, source, ""),
    })
}

/// Reads and checks a pairing file.
pub fn read_pairing(path: &Path) -> Result<Pairing, DataDirError> {
    let pairing: Pairing = read_toml(path)?;
    match pairing.validate() {
        Ok(()) => Ok(pairing),
        Err(error) => {
            Err(DataDirError::Invalid { path: path.to_owned(), reason: error.to_string() })
        }
    }
}

fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T, DataDirError> {
    let text = fs::read_to_string(path).map_err(|source| {
        let hint = if source.kind() == ErrorKind::NotFound { INIT_HINT } else { "" };
        io(path, source, hint)
    })?;
    let text = zeroize::Zeroizing::new(text);
    toml::from_str(&text).map_err(|error| {
        let reason = format!("{}{}", place(&text, error.span()), error.message());
        DataDirError::Invalid { path: path.to_owned(), reason }
    })
}

/// The line's number and its key, but not its value: it may be the secret.
fn place(text: &str, span: Option<std::ops::Range<usize>>) -> String {
    let Some(span) = span else { return String::new() };
    let number = text[..span.start].matches('\n').count();
    let line = text.lines().nth(number).unwrap_or_default();
    let is_key = |key: &str| key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match line.split_once('=').map(|(key, _)| key.trim()).filter(|key| is_key(key)) {
        Some(key) => format!("line {}, {key}: ", number + 1),
        None => format!("line {}: ", number + 1),
    }
}

fn io(path: &Path, source: std::io::Error, hint: &'static str) -> DataDirError {
    DataDirError::Io { path: path.to_owned(), source, hint }
}
