//! Takes out of the folder what is not to be in it any more.

use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use tocyn_durable::names::Batch;

use super::{FRESH, Folder, FolderError, list};

/// A file that is not finished after this long was left by a crash.
const FORGOTTEN: Duration = Duration::from_secs(600);

impl Folder {
    /// Removes a bundle, and the folders that are empty then. It may be gone already, and comes back
    /// with a power cut before `names` are synced.
    pub fn remove(&self, names: &mut Batch, bundle: u64) -> Result<(), FolderError> {
        let path = self.bundle_path(bundle);
        match names.remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(FolderError { path, source: error });
            }
            _ => {}
        }
        let top = self.root.join("tile/entries");
        let above = path.ancestors().skip(1).take_while(|folder| *folder != top);
        // Fails at the first one that is not empty.
        let _ = above.map(|folder| names.remove_dir(folder)).find(Result::is_err);
        Ok(())
    }

    /// Removes what a crash has left: files that are not finished, and bundles before `first`, which
    /// were dropped. Later ones stay, sealed or not: another relay may be sealing them.
    pub fn clean(&self, first: u64) -> Result<(), FolderError> {
        self.clean_fresh()?;
        let mut names = Batch::default();
        for bundle in self.bundles()?.into_iter().filter(|bundle| *bundle < first) {
            self.remove(&mut names, bundle)?;
        }
        names.sync().map_err(|source| FolderError { path: self.root.clone(), source })
    }

    /// Removes files that are not finished and will not be: another relay is done with one of its
    /// own long before.
    pub fn clean_fresh(&self) -> Result<(), FolderError> {
        let mut names = Batch::default();
        for (name, path) in list(&self.root)? {
            let age = fs::metadata(&path).and_then(|file| file.modified());
            let age = age.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
            if name.starts_with(FRESH) && age > FORGOTTEN {
                let _ = names.remove_file(&path); // another relay may be as far
            }
        }
        names.sync().map_err(|source| FolderError { path: self.root.clone(), source })
    }
}
