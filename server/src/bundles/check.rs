//! Holds sealed bundles against the tree.

use tocyn_protocol::log::tile::ENTRY_HEADER_BYTES;
use tocyn_protocol::log::tree::NodeHash;
use tocyn_protocol::relay::MessageId;

use super::{Folder, FolderError};
use crate::messages::blocking;
use crate::store::{Store, StoreError};

/// As many faults are named one by one.
const NAMED: usize = 5;

/// What is wrong with the files of the bundles that the database says are sealed; empty if nothing is.
/// Reads all of them.
pub async fn check(store: &Store, folder: Option<&Folder>) -> Result<Vec<String>, StoreError> {
    let sealed = store.sealed().await?;
    let Some(folder) = folder else {
        let what = "messages are sealed in files, and log.folder does not say where".to_owned();
        return Ok(if sealed.is_empty() { Vec::new() } else { vec![what] });
    };
    let mut faults = Vec::new();
    for bundle in sealed {
        let tile = store.tile(0, bundle).await?;
        let reading = folder.clone();
        let found = blocking(move || Ok(reading.hashes(bundle))).await?;
        let fault = match found {
            Ok(Some(hashes)) if Some(&hashes) == tile.as_ref() => continue,
            Ok(Some(_)) => "its messages are not those in the tree".to_owned(),
            Ok(None) => "it is not there, or has another length".to_owned(),
            Err(error) => error.source.to_string(),
        };
        // A relay may have dropped it meanwhile.
        if store.sealed().await?.contains(&bundle) {
            faults.push(format!("{}: {fault}", folder.bundle_path(bundle).display()));
        }
    }
    let more = faults.len().saturating_sub(NAMED);
    faults.truncate(NAMED);
    faults.extend(
        (more > 0).then(|| format!("{more} more sealed bundles are not as they should be")),
    );
    Ok(faults)
}

impl Folder {
    /// The hashes of a bundle's cells. None if it is not there, or has another length.
    fn hashes(&self, bundle: u64) -> Result<Option<Vec<NodeHash>>, FolderError> {
        if !self.missing(bundle..bundle + 1)?.is_empty() {
            return Ok(None);
        }
        let entries = self.entries(bundle, 0..super::TILE_WIDTH)?;
        let hash = |entry: &[u8]| MessageId::of(&entry[ENTRY_HEADER_BYTES..]).into();
        Ok(entries.map(|bytes| bytes.chunks_exact(self.entry_bytes).map(hash).collect()))
    }
}
