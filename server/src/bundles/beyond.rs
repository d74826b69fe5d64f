//! Sealed bundles of messages that the database does not have: it went back.

use std::fs;
use std::time::UNIX_EPOCH;

use tocyn_durable::names::Batch;
use tocyn_protocol::log::tile::TILE_WIDTH;

use super::{Folder, FolderError};
use crate::signed::Signed;

impl Folder {
    /// What the files here say about the log: a bundle is sealed from the database, and only after
    /// its messages were durable there.
    pub fn sealed(&self) -> Result<Signed, FolderError> {
        let Some(newest) = self.bundles()?.into_iter().max() else { return Ok(Signed::default()) };
        let path = self.bundle_path(newest);
        let modified = fs::metadata(&path).and_then(|file| file.modified());
        let modified = modified.map_err(|source| FolderError { path, source })?;
        let at = modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Ok(Signed { size: newest.saturating_add(1).saturating_mul(TILE_WIDTH), at })
    }

    /// Moves the bundles out of the way, durably, that end after message `head`: others will take
    /// their places, and these may be all that there is of their messages. They go into the folder
    /// `went-back-NOW`. Returns how many there were.
    pub fn set_aside(&self, head: u64, now: u64) -> Result<usize, FolderError> {
        let is_beyond = |bundle: &u64| bundle.saturating_add(1).saturating_mul(TILE_WIDTH) > head;
        let beyond: Vec<_> = self.bundles()?.into_iter().filter(is_beyond).collect();
        let aside = Self { root: self.root.join(format!("went-back-{now}")), ..*self };
        let mut names = Batch::default();
        for bundle in &beyond {
            let (from, to) = (self.bundle_path(*bundle), aside.bundle_path(*bundle));
            let folder = to.parent().unwrap_or(&aside.root);
            // Linked first: a cut leaves a file in either place, or in both.
            let moved = names
                .create_dir(folder, 0o700)
                .and_then(|()| names.hard_link(&from, &to))
                .and_then(|()| names.sync())
                .and_then(|()| names.remove_file(&from));
            moved.map_err(|source| FolderError { path: from, source })?;
        }
        names.sync().map_err(|source| FolderError { path: self.root.clone(), source })?;
        Ok(beyond.len())
    }
}
