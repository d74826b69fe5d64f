//! Files and folders whose names are durable when a function returns.
//!
//! POSIX makes a name durable only with an fsync of the folder that holds it. Everything outside of
//! tests that creates, renames or removes a file goes through here; clippy refuses `std::fs` for it.
#![allow(clippy::disallowed_methods, reason = "this module wraps them")]

mod batch;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use tempfile::NamedTempFile;

pub use batch::Batch;

/// Errors of folders that this process may not sync, and so cannot have changed.
const NOT_OURS: [ErrorKind; 2] = [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem];
/// Errors of file systems without fsync for folders, such as some network ones.
const NO_SYNC: [ErrorKind; 2] = [ErrorKind::InvalidInput, ErrorKind::Unsupported];

/// Makes a folder, and those above it that are missing. One that exists stays as it is.
///
/// Each is durable before the next is made inside it. So of the folders that exist only the last
/// one's name may be in doubt, where a process was killed, and that is synced here too.
///
/// # Errors
/// If a folder cannot be made or synced, or the path names something that is no folder.
pub fn create_dir(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {
            sync_parent(path)?;
            parent(path).map_or(Ok(()), sync_own_name)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            create_dir(parent(path).ok_or(error)?, mode)?;
            create_dir(path, mode)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {
            sync_own_name(path)
        }
        Err(error) => Err(error),
    }
}

/// Syncs the name of a folder that exists, if this process may.
fn sync_own_name(path: &Path) -> io::Result<()> {
    match sync_parent(path) {
        // Others' folders, such as the parent of a home, may be closed to this user.
        Err(error) if NOT_OURS.contains(&error.kind()) => Ok(()),
        synced => synced,
    }
}

/// Makes a file with these bytes; one that exists is not overwritten. After a cut there is the whole
/// file, or none: never a name without the bytes, at which a start would fail.
///
/// # Errors
/// `AlreadyExists`, or any other I/O error. No file is left then.
pub fn create_new(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let fresh = write_fresh(path, mode, bytes)?;
    fresh.persist_noclobber(path).map_err(|error| error.error)?;
    sync_parent(path).inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

/// Opens a file to write it, and makes it if it is not there. What the caller writes is not synced.
///
/// # Errors
/// Any I/O error.
pub fn open_or_create(path: &Path, mode: u32) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(mode).open(path)?;
    // Also one that was there: who made it may have been killed before its name was synced.
    sync_parent(path)?;
    Ok(file)
}

/// Puts a file with these bytes in the place of the one at `path`, if there is one: after a cut
/// there is either the old file or the new one, whole.
///
/// # Errors
/// Any I/O error. Either file is then there, whole.
pub fn replace(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let fresh = write_fresh(path, mode, bytes)?;
    fresh.persist(path).map_err(|error| error.error)?;
    sync_parent(path)
}

/// A file with these bytes, durable, beside `path` and under another name.
fn write_fresh(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut fresh = NamedTempFile::new_in(parent(path).unwrap_or(Path::new(".")))?;
    fresh.write_all(bytes)?;
    fresh.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    fresh.as_file().sync_all()?;
    Ok(fresh)
}

/// Renames a file whose content is durable, in place of one that has the new name.
///
/// # Errors
/// Any I/O error.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_parent(to)?;
    if parent(from) == parent(to) { Ok(()) } else { sync_parent(from) }
}

/// Adds a second name to a file whose content is durable; refuses a name that is taken.
///
/// # Errors
/// `AlreadyExists`, or any other I/O error.
pub fn hard_link(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    sync_parent(to)
}

/// Removes a file.
///
/// # Errors
/// Any I/O error, `NotFound` included.
pub fn remove_file(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    sync_parent(path)
}

/// Makes the names in the folder of `path` durable.
///
/// # Errors
/// If the folder cannot be read or synced.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match parent(path) {
        Some(folder) => sync_dir(folder),
        None => Ok(()), // the root
    }
}

/// Makes the names in this folder durable.
///
/// # Errors
/// If the folder cannot be read or synced.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    match File::open(path)?.sync_all() {
        Err(error) if NO_SYNC.contains(&error.kind()) => Ok(()),
        synced => synced,
    }
}

/// The folder that holds a path; `.` for a bare name.
fn parent(path: &Path) -> Option<&Path> {
    path.parent().map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        create_dir(&deep, 0o700).unwrap();
        create_dir(&deep, 0o755).unwrap();
        assert_eq!(fs::metadata(&deep).unwrap().permissions().mode() & 0o777, 0o700);

        let file = deep.join("file");
        create_new(&file, 0o600, b"one").unwrap();
        assert_eq!(create_new(&file, 0o600, b"").unwrap_err().kind(), ErrorKind::AlreadyExists);
        replace(&file, 0o644, b"two").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);

        let (moved, linked) = (dir.path().join("moved"), deep.join("linked"));
        rename(&file, &moved).unwrap();
        hard_link(&moved, &linked).unwrap();
        assert_eq!(hard_link(&moved, &linked).unwrap_err().kind(), ErrorKind::AlreadyExists);
        remove_file(&moved).unwrap();
        assert_eq!(fs::read(&linked).unwrap(), b"two");
        assert!(create_dir(&linked, 0o700).is_err());
    }

    #[test]
    fn a_bare_name_is_in_the_current_folder() {
        assert_eq!(parent(Path::new("name")), Some(Path::new(".")));
        assert_eq!(parent(Path::new("/")), None);
    }
}
