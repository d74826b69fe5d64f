//! The data folder's files: the pairing.

use std::io::ErrorKind;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tocyn_durable::names;
use tocyn_protocol::pairing::Pairing;
use tocyn_service::folder::kind::{ISSUER, RELAY};
use tocyn_service::folder::{Folder, FolderError, pairing_text, replace};

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

    /// Refuses a folder that is no issuer's, and one that a restore has left half done.
    pub fn check(&self) -> Result<(), FolderError> {
        if self.restoring_path().exists() {
            let reason = "the restore into this folder was cut short; remove the folder, and \
                restore again";
            return Err(FolderError::invalid(self.path(), reason));
        }
        self.check_kind(&ISSUER, &RELAY)
    }

    /// Is there while a restore is under way, so that what it has put here so far is not used.
    pub fn restoring_path(&self) -> PathBuf {
        self.file("restore.unfinished")
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
        match names::hard_link(&path, &kept) {
            // Left by one that was cut short in this second.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && is_same(&path, &kept) => {}
            linked => linked.map_err(|source| FolderError::io(&kept, source, ""))?,
        }
        replace(&path, pairing_text(pairing).as_bytes()).inspect_err(|_| {
            let _ = names::remove_file(&kept);
        })?;
        Ok(kept)
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let file = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    file(one).is_some() && file(one) == file(other)
}

const INIT_HINT: &str = "; make the data folder with `tocyn-issuer --data DIR init` first";

#[cfg(test)]
mod tests {
    use getrandom::SysRng;
    use rand_core::UnwrapErr;

    use super::*;

    #[test]
    fn a_replacement_that_was_cut_short_is_done_again_in_the_same_second() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path());
        let pairing = || Pairing::generate("i", "r", 0, 1000, &mut UnwrapErr(SysRng)).unwrap();
        let (old, new) = (pairing(), pairing());
        replace(&data.pairing_path(), pairing_text(&old).as_bytes()).unwrap();
        names::hard_link(&data.pairing_path(), &data.file("pairing.toml.old-7")).unwrap();
        let kept = data.replace_pairing(&new, 7).unwrap();
        assert_eq!(data.pairing_at(&kept).unwrap().id(), old.id());
        assert_eq!(data.pairing().unwrap().id(), new.id());
        assert!(data.replace_pairing(&new, 7).is_err(), "the one that is kept is another");
    }
}
