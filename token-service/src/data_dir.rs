//! The data folder's files: the pairing.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use tocyn_protocol::pairing::Pairing;
use tocyn_service::folder::{Folder, FolderError, create, pairing_text};

/// A data folder.
#[derive(Clone, Debug)]
pub struct DataDir(Folder);

impl Deref for DataDir {
    type Target = Folder;

    fn deref(&self) -> &Folder {
        &self.0
    }
}

impl DataDir {
    /// The folder at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(Folder::new(path, INIT_HINT))
    }

    /// `config.toml`.
    pub fn config_path(&self) -> PathBuf {
        self.file("config.toml")
    }

    /// `pairing.toml`.
    pub fn pairing_path(&self) -> PathBuf {
        self.file("pairing.toml")
    }

    /// `issuer.sqlite`.
    pub fn database_path(&self) -> PathBuf {
        self.file("issuer.sqlite")
    }

    /// Reads `pairing.toml`, which the supervisor may pass on.
    pub fn pairing(&self) -> Result<Pairing, FolderError> {
        self.pairing_at(&self.secret_file("pairing.toml"))
    }

    /// Reads a pairing file that has another name.
    pub fn pairing_at(&self, path: &Path) -> Result<Pairing, FolderError> {
        let pairing: Pairing = self.read_toml(path)?;
        pairing.validate().map_err(|error| FolderError::invalid(path, error))?;
        Ok(pairing)
    }

    /// Writes a new pairing file in place of the old one, which is kept under another name:
    /// never neither of them.
    pub fn replace_pairing(&self, pairing: &Pairing, now: u64) -> Result<PathBuf, FolderError> {
        let path = self.pairing_path();
        let kept = self.file(&format!("pairing.toml.old-{now}"));
        let fresh = self.file("pairing.toml.new");
        let _ = fs::remove_file(&fresh);
        create(&fresh, pairing_text(pairing).as_bytes())?;
        fs::hard_link(&path, &kept).map_err(|source| FolderError::io(&kept, source, ""))?;
        fs::rename(&fresh, &path).map_err(|source| FolderError::io(&path, source, ""))?;
        Ok(kept)
    }
}

const INIT_HINT: &str = "; make the data folder with `tocyn-issuer --data DIR init` first";
