//! A database that has fewer messages than this relay has signed, or sealed, is served only with a
//! pairing that is newer than the lost ones.

use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::pairing::{Pairing, PairingId};
use tocyn_service::database::Database;
use tocyn_service::folder::FolderError;

use super::{CliResult, Settings, backup};
use crate::bundles::Folder;
use crate::data_dir::DataDir;
use crate::restored::Restored;
use crate::signed::{Signed, SignedFile};

/// What is known of the log without its database. To be asked before the database is: a relay may
/// be at work.
pub(super) fn known(
    data: &DataDir,
    settings: &Settings,
    key: Option<&VerifierKey>,
) -> CliResult<Signed> {
    let signed = Signed::read(&data.signed_path())?.unwrap_or_default();
    let Some((folder, key)) = sealed_folder(data, settings).zip(key) else { return Ok(signed) };
    // A folder of another log is refused later.
    match folder.key() {
        Ok(Some(found)) if found == key.to_string() => Ok(signed.and(folder.sealed()?)),
        _ => Ok(signed),
    }
}

/// Refuses a pairing with which tokens could be spent twice.
pub(super) fn check(data: &DataDir, known: Signed, head: u64, pairing: &Pairing) -> CliResult {
    match known.refusal(head, pairing) {
        Some(why) => Err(FolderError::invalid(data.path(), why).into()),
        None => Ok(()),
    }
}

/// Refuses a database without anything in it for a log that has messages.
pub(super) fn check_is_new(data: &DataDir, known: Signed, database: &Database) -> CliResult {
    if !known.is_ahead_of(0) {
        return Ok(());
    }
    let reason = format!(
        "this relay has signed a log of {} messages, but in {database} there is nothing. Put the \
         database back, or make a data folder of a backup with `tocyn-relay --data DIR restore`. \
         Without either this log cannot go on: make a new data folder",
        known.size
    );
    Err(FolderError::invalid(data.path(), reason).into())
}

/// The log goes on from message `head`, with a newer pairing than the one that the database has: no
/// older one is served from now on.
pub(super) fn accept(
    data: &DataDir,
    settings: &Settings,
    known: Signed,
    head: u64,
    bound: PairingId,
    now: u64,
) -> CliResult {
    let before = data.restored()?;
    let restored = Restored {
        pairing_id: hex::encode(bound.0),
        restored_at: before.map_or(0, |before| before.restored_at).max(known.at),
        backup_made: None,
        database: backup::kind(&settings.database),
        complete: true,
        allowed: None,
    };
    // First: whatever comes after this may be cut short, and is done again then.
    restored.write(&data.restored_path())?;
    let aside = match sealed_folder(data, settings) {
        Some(folder) => folder.set_aside(head, now)?,
        None => 0,
    };
    let path = data.signed_path();
    let lowered = SignedFile::open(&path)?.lower(head);
    lowered.map_err(|source| FolderError::io(&path, source, ""))?;
    tracing::warn!(
        signed = known.size,
        head,
        files_set_aside = aside,
        "the database went back: the log goes on with a new pairing"
    );
    Ok(())
}

fn sealed_folder(data: &DataDir, settings: &Settings) -> Option<Folder> {
    settings.log_folder(data).map(|path| Folder::new(path, settings.config.cell_bytes))
}
