//! A backup: a folder with a copy of a data folder's files, and `backup.toml`, which is written last
//! and says what there must be. Without it the backup was cut short.

mod files;
mod sqlite;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tocyn_durable::names::{self, Batch};
use tocyn_protocol::pairing::Pairing;

use crate::folder::{Folder, FolderError, read_toml, replace};

pub use files::link_or_copy;
use files::{copy, digest, is_empty};
pub use sqlite::copy_sqlite;

/// The version of the form of backups.
const VERSION: u32 = 1;
/// What is written last.
const MANIFEST: &str = "backup.toml";

/// Where a service keeps what is not in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseKind {
    /// In a file, which is in the backup.
    Sqlite,
    /// On a server, which has backups of its own.
    Postgres,
}

/// `backup.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Of the form.
    version: u32,
    /// `issuer` or `relay`.
    pub service: String,
    /// Names of the pair.
    pub issuer_name: String,
    /// As above.
    pub origin_name: String,
    /// The pairing of then, by [`pairing_id`].
    pub pairing_id: String,
    /// Unix seconds at which it was begun.
    pub made_at: u64,
    /// The same, for people.
    pub made: String,
    /// Where the database is.
    pub database: DatabaseKind,
    /// What there is of a relay's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<LogPart>,
    /// The files, but for sealed ones: those the tree in the database vouches for.
    files: Vec<CopiedFile>,
}

/// Which part of a log is in the backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPart {
    /// The oldest sequence.
    pub oldest: u64,
    /// The newest one.
    pub head: u64,
    /// Bytes of every cell.
    pub cell_bytes: u64,
    /// The first sealed bundle.
    pub sealed_from: u64,
    /// The first one after them.
    pub sealed_to: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CopiedFile {
    name: String,
    bytes: u64,
    sha256: String,
}

impl Manifest {
    /// Of a service, before anything is copied.
    pub fn new(service: &str, pairing: &Pairing, database: DatabaseKind, now: u64) -> Self {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(now);
        Self {
            version: VERSION,
            service: service.to_owned(),
            issuer_name: pairing.issuer_name().to_owned(),
            origin_name: pairing.origin_name().to_owned(),
            pairing_id: pairing_id(pairing),
            made_at: now,
            made: humantime::format_rfc3339_seconds(time).to_string(),
            database,
            log: None,
            files: Vec::new(),
        }
    }
}

/// What tells pairings apart, and is no secret: its id, as databases have it.
pub fn pairing_id(pairing: &Pairing) -> String {
    hex::encode(pairing.id().0)
}

/// A backup that is being made.
pub struct NewBackup {
    path: PathBuf,
    manifest: Manifest,
    names: Batch,
}

impl NewBackup {
    /// Makes the folder, mode 0700. One that is there must be empty.
    pub fn create(path: &Path, manifest: Manifest) -> Result<Self, FolderError> {
        make_empty(&Folder::new(path, ""), "; give a new folder for each backup")?;
        Ok(Self { path: path.to_owned(), manifest, names: Batch::default() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a file of this name is or will be.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Copies a file, mode 0600, under its own name.
    pub fn copy(&mut self, from: &Path) -> Result<(), FolderError> {
        let name = from.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| FolderError::invalid(from, "its name is not text"))?;
        let to = self.file(name);
        let (bytes, sha256) = copy(&mut self.names, from, &to)?;
        self.manifest.files.push(CopiedFile { name: name.to_owned(), bytes, sha256 });
        Ok(())
    }

    /// Takes note of a file that was made in the folder, as it is now.
    pub fn add(&mut self, name: &str) -> Result<(), FolderError> {
        let (bytes, sha256) = digest(&self.file(name))?;
        self.manifest.files.push(CopiedFile { name: name.to_owned(), bytes, sha256 });
        Ok(())
    }

    /// Makes all of it durable, and says that it is complete. Gives its bytes, without sealed files.
    /// `pairing` is read again for it: if it was renewed meanwhile, the parts may not fit together.
    pub fn finish(mut self, pairing: &Pairing, log: Option<LogPart>) -> Result<u64, FolderError> {
        if pairing_id(pairing) != self.manifest.pairing_id {
            let reason =
                "the pairing was renewed meanwhile; remove this, and make the backup again";
            return Err(FolderError::invalid(&self.path, reason));
        }
        self.manifest.log = log;
        let text = toml::to_string(&self.manifest).expect("a manifest is plain data");
        let text = format!(
            "# A backup of tocyn-{}. This file was written last.\n{text}",
            self.manifest.service
        );
        self.names.sync().map_err(|source| FolderError::io(&self.path, source, ""))?;
        replace(&self.file(MANIFEST), text.as_bytes())?;
        Ok(self.manifest.files.iter().map(|file| file.bytes).sum())
    }
}

/// A backup that is complete.
pub struct Backup {
    path: PathBuf,
    manifest: Manifest,
}

impl Backup {
    /// Opens a backup of this service; refuses one that was cut short.
    pub fn open(path: &Path, service: &str) -> Result<Self, FolderError> {
        let file = path.join(MANIFEST);
        if !file.exists() {
            let reason = match path.is_dir() {
                true => {
                    "this is no backup, or one that was cut short: it has no backup.toml, which is \
                     written last. Use another one"
                }
                false => "there is no such folder",
            };
            return Err(FolderError::invalid(path, reason));
        }
        let manifest: Manifest = read_toml(&file)?;
        if manifest.version != VERSION {
            let reason = format!("version is {}; use the program that wrote it", manifest.version);
            return Err(FolderError::invalid(&file, reason));
        }
        if manifest.service != service {
            let reason = format!("this is a backup of tocyn-{}", manifest.service);
            return Err(FolderError::invalid(&file, reason));
        }
        Ok(Self { path: path.to_owned(), manifest })
    }

    /// What `backup.toml` says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is such a file, but for sealed ones.
    pub fn has(&self, name: &str) -> bool {
        self.manifest.files.iter().any(|file| file.name == name)
    }

    /// Copies a file out, mode 0600; refuses one that is not as it was when it was written.
    pub fn copy_out(&self, name: &str, to: &Path) -> Result<(), FolderError> {
        let path = self.path.join(name);
        let expected = self.manifest.files.iter().find(|file| file.name == name);
        let expected = expected
            .ok_or_else(|| FolderError::invalid(&path, "backup.toml says nothing of this file"))?;
        let mut names = Batch::default();
        if copy(&mut names, &path, to)? != (expected.bytes, expected.sha256.clone()) {
            let _ = names.remove_file(to);
            let reason = "it is damaged: it is not what backup.toml says. Use another backup";
            return Err(FolderError::invalid(&path, reason));
        }
        names.sync().map_err(|source| FolderError::io(to, source, ""))
    }

    /// The same, for a database: under its name only once all of it is there.
    pub fn copy_out_whole(&self, name: &str, to: &Path) -> Result<(), FolderError> {
        let fresh = crate::doctor::beside(to, ".restoring");
        self.copy_out(name, &fresh)?;
        names::rename(&fresh, to).map_err(|source| FolderError::io(to, source, ""))
    }
}

/// Makes a folder, mode 0700, or takes an empty one.
pub fn make_empty(folder: &Folder, hint: &'static str) -> Result<(), FolderError> {
    let path = folder.path();
    folder.create()?;
    if !is_empty(path)? {
        let found = std::io::Error::from(std::io::ErrorKind::DirectoryNotEmpty);
        return Err(FolderError::io(path, found, hint));
    }
    files::set_mode(path, 0o700)
}

/// Refuses to restore a database beside one that is there, or beside what SQLite has left of one: it
/// would take that for the restored one's.
pub fn refuse_leftovers(database: &Path) -> Result<(), String> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut path = database.as_os_str().to_owned();
        path.push(suffix);
        let path = PathBuf::from(path);
        if path.exists() {
            return Err(format!("{}: it is not overwritten, move it away first", path.display()));
        }
    }
    Ok(())
}

/// Whether a folder is not there, or has nothing in it.
pub fn is_unused(path: &Path) -> Result<bool, FolderError> {
    if path.exists() { is_empty(path) } else { Ok(true) }
}

#[cfg(test)]
mod tests;
