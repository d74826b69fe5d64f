//! How a bundle's file comes into the folder: written, synced, named.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};

use tocyn_durable::names::{self, Batch};

use super::{FRESH, Folder, FolderError};

/// A bundle's file before it has its name. Dropping it removes it.
pub struct FreshBundle {
    file: File,
    path: PathBuf,
}

/// What became of a name.
pub enum Named {
    /// The file with these bytes has it, this one or one that was there.
    Done,
    /// Another file has it, which was not touched.
    Taken(FreshBundle),
}

impl Folder {
    /// Writes a new file, without a name that means anything yet.
    pub fn write_new(&self, bytes: &[u8]) -> Result<FreshBundle, FolderError> {
        let path = self.path().join(format!("{FRESH}{:016x}", UnwrapErr(SysRng).next_u64()));
        let failed = |source| FolderError { path: path.clone(), source };
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut fresh = FreshBundle { file: file.map_err(failed)?, path: path.clone() };
        fresh.file.write_all(bytes).map_err(failed)?;
        Ok(fresh)
    }

    /// Gives a file, whose bytes are durable, the name of a bundle, unless there is one: it may be
    /// the same, of another relay or of a crash before the database said that it was sealed. Then
    /// it is made durable. It may also be of a log that is no more, or be sealed and
    /// right, where this process is what is late. The name is durable once `names` are.
    pub fn name(
        &self,
        names: &mut Batch,
        fresh: FreshBundle,
        bundle: u64,
    ) -> Result<Named, FolderError> {
        let path = self.bundle_path(bundle);
        if let Some(folder) = path.parent() {
            let failed = |source| FolderError { path: folder.to_owned(), source };
            names.create_dir(folder, 0o700).map_err(failed)?;
        }
        let linked = match names.hard_link(&fresh.path, &path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => None,
            linked => Some(linked.map_err(no_links)),
        };
        let failed = |source| FolderError { path: path.clone(), source };
        if let Some(linked) = linked {
            return linked.map(|()| Named::Done).map_err(failed);
        }
        let (here, there) = (fs::read(&fresh.path), fs::read(&path));
        if here.map_err(failed)? != there.map_err(failed)? {
            return Ok(Named::Taken(fresh));
        }
        File::open(&path).and_then(|file| file.sync_all()).map_err(failed)?;
        names.add(&path);
        Ok(Named::Done)
    }

    /// Puts it, durably, in place of the file that has the name. The caller must know that no bundle of this
    /// place is sealed.
    pub fn replace(&self, fresh: FreshBundle, bundle: u64) -> Result<(), FolderError> {
        fresh.rename(&self.bundle_path(bundle))
    }
}

/// Names are given by links because those, unlike renames, never replace a file.
fn no_links(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::Unsupported | ErrorKind::PermissionDenied => io::Error::new(
            error.kind(),
            format!("{error}: log.folder must lie on a file system that has hard links"),
        ),
        _ => error,
    }
}

impl FreshBundle {
    /// Makes its bytes durable.
    pub fn sync(&self) -> Result<(), FolderError> {
        self.file.sync_all().map_err(|source| FolderError { path: self.path.clone(), source })
    }

    pub(super) fn rename(self, to: &Path) -> Result<(), FolderError> {
        names::rename(&self.path, to).map_err(|source| FolderError { path: to.to_owned(), source })
    }
}

impl Drop for FreshBundle {
    #[expect(clippy::disallowed_methods, reason = "a name that comes back means nothing, and goes")]
    fn drop(&mut self) {
        // It may have its name by now: then this one goes, and the file stays.
        let _ = fs::remove_file(&self.path);
    }
}
