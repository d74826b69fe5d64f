//! Copies of files: durable, for their owner only.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::folder::FolderError;

const CHUNK_BYTES: usize = 1 << 20;

/// Copies a file to a new one, mode 0600. Gives bytes and SHA-256.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(u64, String), FolderError> {
    let source = File::open(from).map_err(|source| FolderError::io(from, source, ""))?;
    let failed = |source| FolderError::io(to, source, "");
    let mut options = OpenOptions::new();
    let target = options.write(true).create_new(true).mode(0o600).open(to).map_err(failed)?;
    let copied = read_all(source, |bytes| (&target).write_all(bytes)).map_err(failed)?;
    target.sync_all().map_err(failed)?;
    Ok(copied)
}

/// Bytes and SHA-256 of a file.
pub(super) fn digest(path: &Path) -> Result<(u64, String), FolderError> {
    let failed = |source| FolderError::io(path, source, "");
    read_all(File::open(path).map_err(failed)?, |_| Ok(())).map_err(failed)
}

fn read_all(
    mut source: File,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<(u64, String)> {
    let (mut hash, mut buffer, mut total) = (Sha256::new(), vec![0; CHUNK_BYTES], 0);
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok((total, hex::encode(hash.finalize()))),
            read => {
                each(&buffer[..read])?;
                hash.update(&buffer[..read]);
                total += read as u64;
            }
        }
    }
}

/// Gives a file that never changes a second name; copies it where that cannot be, as to another
/// file system. Makes the folders above, mode 0700. Says whether it is there now: a file may be
/// gone before its turn has come. One that has the name stays. The caller makes names durable.
pub fn link_or_copy(from: &Path, to: &Path) -> Result<bool, FolderError> {
    let failed = |source| FolderError::io(to, source, "");
    if to.exists() {
        return Ok(true);
    }
    let above = to.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(above).map_err(failed)?;
    match fs::hard_link(from, to) {
        // A file that others can read would have to be changed in both places.
        Ok(()) if mode(to).map_err(failed)? & 0o077 == 0 => return Ok(true),
        Ok(()) => fs::remove_file(to).map_err(failed)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(_) => {}
    }
    match copy(from, to) {
        Ok(_) => Ok(true),
        Err(FolderError::Io { path, source, .. })
            if path == from && source.kind() == ErrorKind::NotFound =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn mode(path: &Path) -> io::Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode())
}

pub(super) fn set_mode(path: &Path, mode: u32) -> Result<(), FolderError> {
    let set = fs::set_permissions(path, Permissions::from_mode(mode));
    set.map_err(|source| FolderError::io(path, source, ""))
}

pub(super) fn is_empty(path: &Path) -> Result<bool, FolderError> {
    let listed = fs::read_dir(path).map_err(|source| FolderError::io(path, source, ""));
    Ok(listed?.next().is_none())
}

pub(super) fn sync_folder(path: &Path) -> Result<(), FolderError> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|source| FolderError::io(path, source, ""))
}
