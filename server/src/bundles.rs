//! The log's folder: sealed bundles in files that never change, at the very paths and in the very
//! bytes of c2sp.org/tlog-tiles. What is in it for good is what the database says is sealed.

mod beyond;
mod check;
mod clean;
mod fresh;
pub(crate) mod open;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use tocyn_durable::names;
use tocyn_protocol::log::tile::{Content, ENTRY_HEADER_BYTES, TILE_WIDTH, Tile};

pub use check::check;
pub use fresh::{FreshBundle, Named};

/// Whose signature the log in the folder has.
const KEY_FILE: &str = "key";
/// What files begin with that are not finished. They lie at the top, so that a start need not look
/// through all of the folder for them.
const FRESH: &str = "new-";

/// A file or the folder failed.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct FolderError {
    /// Which one.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// The folder.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
    entry_bytes: usize,
}

impl Folder {
    /// The folder at this path, which need not be there; for cells of this size.
    pub fn new(root: PathBuf, cell_bytes: usize) -> Self {
        Self { root, entry_bytes: ENTRY_HEADER_BYTES + cell_bytes }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The file of a bundle.
    pub fn bundle_path(&self, bundle: u64) -> PathBuf {
        let tile = Tile { content: Content::Entries, index: bundle, width: TILE_WIDTH as u16 };
        self.root.join(tile.to_string())
    }

    /// Bytes of a bundle.
    pub fn bundle_bytes(&self) -> usize {
        TILE_WIDTH as usize * self.entry_bytes
    }

    /// The key that the log in it is signed with; None where there is no log.
    pub fn key(&self) -> Result<Option<String>, FolderError> {
        let path = self.root.join(KEY_FILE);
        match fs::read_to_string(&path) {
            Ok(key) => Ok(Some(key.trim().to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FolderError { path, source }),
        }
    }

    /// Whether it is not there, or nothing but what a crash may have left of [`Self::create`].
    pub fn is_unused(&self) -> Result<bool, FolderError> {
        Ok(list(&self.root)?.iter().all(|(name, _)| name.starts_with(FRESH)))
    }

    /// Whether there is a bundle in it.
    pub fn has_bundles(&self) -> Result<bool, FolderError> {
        Ok(!list(&self.root.join("tile/entries"))?.is_empty())
    }

    /// Every bundle that has a file here, in no order.
    pub fn bundles(&self) -> Result<Vec<u64>, FolderError> {
        let mut found = Vec::new();
        let mut folders = vec![(self.root.join("tile/entries"), 0)];
        while let Some((folder, above)) = folders.pop() {
            for (name, path) in list(&folder)? {
                let digits = name.strip_prefix('x').unwrap_or(&name);
                let Some(group) = digits.parse().ok().filter(|_| digits.len() == 3) else {
                    continue;
                };
                let bundle = u64::saturating_add(u64::saturating_mul(above, 1000), group);
                match name == digits {
                    true => found.push(bundle),
                    false => folders.push((path, bundle)),
                }
            }
        }
        Ok(found)
    }

    /// Makes the folder for a log that is signed with this key, mode 0700.
    pub fn create(&self, key: &str) -> Result<(), FolderError> {
        let failed = |source| FolderError { path: self.root.clone(), source };
        names::create_dir(&self.root, 0o700).map_err(failed)?;
        let fresh = self.write_new(format!("{key}\n").as_bytes())?;
        fresh.sync()?;
        // Two relays may come here at once, with the same key.
        fresh.rename(&self.root.join(KEY_FILE))
    }

    /// Makes the names durable of a folder that is there and of what lies at its top: a crash may
    /// have come between the two.
    fn sync_top(&self) -> Result<(), FolderError> {
        let synced =
            names::create_dir(&self.root, 0o700).and_then(|()| names::sync_dir(&self.root));
        synced.map_err(|source| FolderError { path: self.root.clone(), source })
    }

    /// These cells of a bundle, each after its length. None where there is no such file.
    pub fn entries(&self, bundle: u64, cells: Range<u64>) -> Result<Option<Vec<u8>>, FolderError> {
        let path = self.bundle_path(bundle);
        let len = (cells.end - cells.start) as usize * self.entry_bytes;
        let read = || {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(cells.start * self.entry_bytes as u64))?;
            let mut bytes = Vec::with_capacity(len);
            file.take(len as u64).read_to_end(&mut bytes)?;
            let cell_bytes = (self.entry_bytes - ENTRY_HEADER_BYTES) as u16;
            let is_whole = |entry: &[u8]| entry[..ENTRY_HEADER_BYTES] == cell_bytes.to_be_bytes();
            if bytes.len() != len || !bytes.chunks_exact(self.entry_bytes).all(is_whole) {
                let what = "its cells have other lengths than those of this log";
                return Err(io::Error::new(ErrorKind::InvalidData, what));
            }
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FolderError { path, source }),
        }
    }

    /// Of these bundles the ones whose file is not there or has another length.
    pub fn missing(&self, bundles: Range<u64>) -> Result<Vec<u64>, FolderError> {
        let mut missing = Vec::new();
        for bundle in bundles {
            let path = self.bundle_path(bundle);
            match fs::metadata(&path) {
                Ok(file) if file.is_file() && file.len() == self.bundle_bytes() as u64 => {}
                Ok(_) => missing.push(bundle),
                Err(error) if error.kind() == ErrorKind::NotFound => missing.push(bundle),
                Err(source) => return Err(FolderError { path, source }),
            }
        }
        Ok(missing)
    }
}

/// Names and paths in a folder; none where it is not there.
fn list(folder: &Path) -> Result<Vec<(String, PathBuf)>, FolderError> {
    let failed = |source| FolderError { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let entry = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.map_err(failed)?;
        Ok((entry.file_name().to_string_lossy().into_owned(), entry.path()))
    };
    entries.map(entry).collect()
}
