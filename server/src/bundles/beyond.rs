//! Sealed bundles of messages that the database does not have: it went back.

use std::fs;

use tocyn_durable::names::Batch;

use super::{Folder, FolderError, list};

/// Prefix of the folders that lost bundles are moved to.
const ASIDE: &str = "went-back-";

impl Folder {
    /// Moves these bundles out of the way, durably: others will take their places, and these may be
    /// all that there is of their messages. They go into the folder `went-back-NOW`.
    pub fn set_aside(&self, bundles: &[u64], now: u64) -> Result<(), FolderError> {
        let aside = Self { root: self.root.join(format!("{ASIDE}{now}")), ..*self };
        let mut names = Batch::default();
        for bundle in bundles {
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
        names.sync().map_err(|source| FolderError { path: self.root.clone(), source })
    }

    /// Folders that bundles were moved to.
    pub(super) fn asides(&self) -> Vec<String> {
        let folders = list(&self.root).unwrap_or_default().into_iter();
        let is_aside = |(name, path): &(String, _)| {
            name.starts_with(ASIDE) && fs::metadata(path).is_ok_and(|aside| aside.is_dir())
        };
        folders.filter(is_aside).map(|(name, _)| name).collect()
    }
}
