//! Copies of files: durable, for their owner only.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};
use tocyn_durable::names::Batch;

use crate::folder::FolderError;

const CHUNK_BYTES: usize = 1 << 20;

/// Copies a file to a new one, mode 0600. Returns its bytes and SHA-256.
pub(super) fn copy(
    names: &mut Batch,
    from: &Path,
    to: &Path,
) -> Result<(u64, String), FolderError> {
    let source = File::open(from).map_err(|source| FolderError::io(from, source, ""))?;
    let failed = |source| FolderError::io(to, source, "");
    let target = names.create_file(to, 0o600).map_err(failed)?;
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
/// file system. Makes the folders above, mode 0700. Returns whether it is there now: a file may be
/// gone before its turn has come. One that has the name stays.
pub fn link_or_copy(names: &mut Batch, from: &Path, to: &Path) -> Result<bool, FolderError> {
    let failed = |source| FolderError::io(to, source, "");
    if to.exists() {
        names.add(to);
        return Ok(true);
    }
    names.create_dir(to.parent().unwrap_or(Path::new("/")), 0o700).map_err(failed)?;
    match names.hard_link(from, to) {
        // A file that others can read would have to be changed in both places.
        Ok(()) if mode(to).map_err(failed)? & 0o077 == 0 => return Ok(true),
        Ok(()) => names.remove_file(to).map_err(failed)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(_) => {}
    }
    match copy(names, from, to) {
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
