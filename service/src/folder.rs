//! The data folder: its files, all at mode 0600, and errors that name file, line and key.

pub mod kind;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use tocyn_durable::names;
use tocyn_protocol::pairing::Pairing;

/// Why the data folder, or a file of settings, cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
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
        "{0} is in use by another process; stop all that use it first, or use another --data folder"
    )]
    InUse(PathBuf),
}

impl FolderError {
    /// A failed operation on a file.
    pub fn io(path: &Path, source: std::io::Error, hint: &'static str) -> Self {
        Self::Io { path: path.to_owned(), source, hint }
    }

    /// A file that does not say what it should.
    pub fn invalid(path: &Path, reason: impl ToString) -> Self {
        Self::Invalid { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// A data folder.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    /// What to do where there is none.
    init_hint: &'static str,
}

impl Folder {
    /// The folder at `path`, which need not exist yet; `init_hint` says how to make it.
    pub fn new(path: impl Into<PathBuf>, init_hint: &'static str) -> Self {
        Self { path: path.into(), init_hint }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A secret: what the supervisor passes on under this name (`LoadCredential=` of systemd), else
    /// the file in the folder; for commands beside such a service, the one in `/etc/tocyn`.
    pub fn secret_file(&self, name: &str) -> PathBuf {
        let etc = Path::new("/etc/tocyn").join(name);
        let found = self.own_secret(name).or_else(|| etc.exists().then_some(etc));
        found.unwrap_or_else(|| self.file(name))
    }

    /// [`Self::secret_file`] without `/etc/tocyn`, which says nothing about this folder.
    fn own_secret(&self, name: &str) -> Option<PathBuf> {
        let passed = std::env::var_os("CREDENTIALS_DIRECTORY");
        let passed = passed.map(|folder| Path::new(&folder).join(name));
        [passed, Some(self.file(name))].into_iter().flatten().find(|path| path.exists())
    }

    /// Makes the folder, mode 0700, if it is not there.
    pub fn create(&self) -> Result<(), FolderError> {
        names::create_dir(&self.path, 0o700)
            .map_err(|source| FolderError::io(&self.path, source, ""))
    }

    /// Reads a TOML file that `init` has made.
    pub fn read_toml<T: DeserializeOwned>(&self, path: &Path) -> Result<T, FolderError> {
        read_toml(path).map_err(|error| match error {
            FolderError::Io { path, source, .. } if source.kind() == ErrorKind::NotFound => {
                FolderError::Io { path, source, hint: self.init_hint }
            }
            error => error,
        })
    }

    /// Takes the folder for this process alone, until the returned file is dropped.
    pub fn lock(&self) -> Result<File, FolderError> {
        self.lock_with(File::try_lock)
    }

    /// Takes the folder beside others that do the same: its files stay as they are meanwhile.
    pub fn lock_shared(&self) -> Result<File, FolderError> {
        self.lock_with(File::try_lock_shared)
    }

    fn lock_with(
        &self,
        try_lock: impl Fn(&File) -> Result<(), fs::TryLockError>,
    ) -> Result<File, FolderError> {
        let path = self.file("lock");
        let file = names::open_or_create(&path, 0o600).map_err(|source| {
            let hint = match source.kind() {
                ErrorKind::PermissionDenied => "; run this as the user that owns the folder",
                _ => self.init_hint,
            };
            FolderError::io(&path, source, hint)
        })?;
        match try_lock(&file) {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(FolderError::InUse(self.path.clone())),
            Err(fs::TryLockError::Error(source)) => Err(FolderError::io(&path, source, "")),
        }
    }
}

/// Creates a file of mode 0600 with these bytes, durably; refuses to overwrite.
pub fn create(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    names::create_new(path, 0o600, bytes).map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => {
            FolderError::io(path, source, "; it is not overwritten, move it away first")
        }
        _ => FolderError::io(path, source, ""),
    })
}

/// Puts a file of mode 0600 with these bytes in place of the one that is there, if any, durably.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    names::replace(path, 0o600, bytes).map_err(|source| FolderError::io(path, source, ""))
}

/// A pairing as the text of its file.
pub fn pairing_text(pairing: &Pairing) -> zeroize::Zeroizing<String> {
    let text = toml::to_string(pairing).expect("a pairing is plain data");
    zeroize::Zeroizing::new(format!(
        "# The secret that this issuer and its relay share. Its holder can make tokens.\n\
         # Copy it to the relay over a channel that nobody reads, and keep it at mode 0600.\n{text}"
    ))
}

/// Reads a TOML file.
pub fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T, FolderError> {
    let text = fs::read_to_string(path).map_err(|source| FolderError::io(path, source, ""))?;
    let text = zeroize::Zeroizing::new(text);
    toml::from_str(&text).map_err(|error| {
        let reason = format!("{}{}", place(&text, error.span()), error.message());
        FolderError::invalid(path, reason)
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
