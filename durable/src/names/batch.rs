//! Many names with one sync.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Names that become durable together, with one sync of each folder: for thousands of files, where
/// a sync for each would take minutes.
#[derive(Debug, Default)]
#[must_use = "names are durable only after `sync`"]
pub struct Batch {
    /// Folders in which names have changed.
    changed: BTreeSet<PathBuf>,
    /// Folders that are durable themselves.
    made: BTreeSet<PathBuf>,
}

impl Batch {
    /// Makes a folder as [`super::create_dir`] does: durable at once, but once for each batch.
    ///
    /// # Errors
    /// As there.
    pub fn create_dir(&mut self, path: &Path, mode: u32) -> io::Result<()> {
        if !self.made.contains(path) {
            super::create_dir(path, mode)?;
            self.made.insert(path.to_owned());
        }
        Ok(())
    }

    /// Makes a file, for the caller to write and sync; one that exists is not opened.
    ///
    /// # Errors
    /// `AlreadyExists`, or any other I/O error.
    pub fn create_file(&mut self, path: &Path, mode: u32) -> io::Result<File> {
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        self.add(path);
        Ok(file)
    }

    /// Adds a second name to a file whose content is durable; refuses a name that is taken.
    ///
    /// # Errors
    /// `AlreadyExists`, or any other I/O error.
    pub fn hard_link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)?;
        self.add(to);
        Ok(())
    }

    /// Renames a file within its folder, in place of one that has the new name.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        self.add(from);
        self.add(to);
        Ok(())
    }

    /// Removes a file.
    ///
    /// # Errors
    /// Any I/O error, `NotFound` included.
    pub fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)?;
        self.add(path);
        Ok(())
    }

    /// Removes an empty folder.
    ///
    /// # Errors
    /// Any I/O error, such as `DirectoryNotEmpty` or `NotFound`.
    pub fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)?;
        self.made.remove(path);
        self.add(path);
        Ok(())
    }

    /// Removes a folder and all that is in it.
    ///
    /// # Errors
    /// Any I/O error, `NotFound` included.
    pub fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)?;
        self.made.retain(|folder| !folder.starts_with(path));
        self.add(path);
        Ok(())
    }

    /// Adds a name that the caller has changed by other means.
    pub fn add(&mut self, path: &Path) {
        self.changed.extend(super::parent(path).map(Path::to_owned));
    }

    /// Makes all of them durable. The batch is empty then.
    ///
    /// # Errors
    /// If a folder cannot be read or synced. It is still in the batch.
    pub fn sync(&mut self) -> io::Result<()> {
        while let Some(folder) = self.changed.last() {
            match super::sync_dir(folder) {
                // It was removed, which is a change in the one above.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                synced => synced?,
            }
            self.changed.pop_last();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_are_gone_need_no_sync() {
        let dir = tempfile::tempdir().unwrap();
        let (deep, other) = (dir.path().join("a/b"), dir.path().join("other"));
        let mut batch = Batch::default();
        batch.create_dir(&deep, 0o700).unwrap();
        let file = deep.join("file");
        batch.create_file(&file, 0o600).unwrap().sync_all().unwrap();
        assert_eq!(batch.create_file(&file, 0o600).unwrap_err().kind(), ErrorKind::AlreadyExists);
        batch.hard_link(&file, &other).unwrap();
        batch.remove_file(&file).unwrap();
        assert!(batch.remove_dir(&dir.path().join("a")).is_err());
        batch.remove_dir(&deep).unwrap();
        assert_eq!(batch.changed.len(), 3);
        batch.sync().unwrap();
        assert!(batch.changed.is_empty());
        // It is made again, though the batch had it before.
        batch.create_dir(&deep, 0o700).unwrap();
        batch.rename(&other, &dir.path().join("renamed")).unwrap();
        batch.remove_dir_all(&dir.path().join("a")).unwrap();
        batch.sync().unwrap();
        assert!(dir.path().join("renamed").exists() && !deep.exists());
    }
}
