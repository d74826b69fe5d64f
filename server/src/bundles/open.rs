//! Takes the folder for a log when a relay starts, or says why not.

use std::ops::Range;

use tocyn_protocol::log::tile::TILE_WIDTH;

use super::{Folder, FolderError};
use crate::store::StoreError;

/// Makes the folder, or sees whether it is this log's, and removes what is left of a crash. Gives the
/// bundles that it lacks.
pub(crate) fn open(
    folder: &Folder,
    key: &str,
    sealed: Range<u64>,
    is_new: bool,
) -> Result<Vec<u64>, StoreError> {
    let failed = |error: FolderError| {
        let database = error.path.display().to_string();
        StoreError::Open { database, reason: error.source.to_string() }
    };
    let unused = folder.is_unused().map_err(failed)?;
    match folder.key().map_err(failed)? {
        Some(found) if found == key && is_new && folder.has_bundles().map_err(failed)? => {
            let reason = "in this folder are sealed messages, but the database has never had any: \
                lead the relay to the one that they were sealed from, or move this folder away for \
                a new log";
            return Err(refusal(folder, reason.to_owned()));
        }
        Some(found) if found == key => folder.sync_top().map_err(failed)?,
        Some(other) => {
            let reason = format!(
                "in this folder are the messages of another log, signed with the key {other}; set \
                 log.folder in config.toml to one of its own for this log, or move this one away"
            );
            return Err(refusal(folder, reason));
        }
        // It is not mounted, or was lost: nothing of it is made.
        None if !sealed.is_empty() => {}
        None if unused => folder.create(key).map_err(failed)?,
        None => {
            let reason = "this folder is for sealed messages, but something else is in it; move \
                that away, or set log.folder in config.toml to another one";
            return Err(refusal(folder, reason.to_owned()));
        }
    }
    folder.clean(sealed.start).map_err(failed)?;
    folder.missing(sealed).map_err(failed)
}

fn refusal(folder: &Folder, reason: String) -> StoreError {
    StoreError::Open { database: folder.path().display().to_string(), reason }
}

/// What to do about bundles that are not there.
pub(crate) fn lacks(folder: &Folder, sealed: &Range<u64>, missing: &[u64]) -> StoreError {
    let (first, last) = (missing[0], missing[missing.len() - 1]);
    let asides = match folder.asides() {
        none if none.is_empty() => String::new(),
        asides => format!(
            "Files of a database that had gone back were moved to {}: if it is the right one again, \
             move them back. ",
            asides.join(", ")
        ),
    };
    let reason = format!(
        "{} of {} files of sealed messages are not there or have another length, the first one {}. Is \
         this the right folder, and mounted? Restore it from the backup that was made after that of \
         the database. {asides}To go on without what is missing, and all before it, stop all relays that \
         use it and run `tocyn-relay db drop --before {}`",
        missing.len(),
        sealed.end - sealed.start,
        folder.bundle_path(first).display(),
        (last + 1) * TILE_WIDTH + 1,
    );
    refusal(folder, reason)
}
