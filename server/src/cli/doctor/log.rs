//! The doctor's checks of the log: its key, its size, where it is served, its sealed files.

use axum::http::StatusCode;
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::note::{LogKey, VerifierKey};
use tocyn_protocol::pairing::Pairing;
use tocyn_service::doctor::Report;
use tocyn_service::probe;

use crate::bundles::Folder;
use crate::cli::Settings;
use crate::cli::went_back::Known;
use crate::data_dir::DataDir;
use crate::store::{Store, StoreError};

/// Whether the database has all that was signed.
pub(super) async fn check_size(
    report: &mut Report,
    data: &DataDir,
    settings: &Settings,
    (store, pairing, key): (&Store, &Pairing, &VerifierKey),
) {
    let check = "log";
    let known = match Known::of(data, settings, Some(key)) {
        Ok(known) => known,
        Err(error) => return report.bad(check, error.to_string()),
    };
    let (head, bound) = match (store.range().await, store.pairing_id().await) {
        (Ok(range), Ok(bound)) => (range.head, bound),
        (Err(error), _) | (_, Err(error)) => return report.bad(check, error.to_string()),
    };
    match known.refusal(head, bound, pairing) {
        Some(why) => report.bad(check, why),
        None if known.is_ahead_of(head) => {
            report.warn(check, "the database went back; `serve` goes on with the new pairing");
        }
        None => report.good(check, format!("{head} messages, and no more were signed")),
    }
    for address in &settings.config.addresses {
        check_answer(report, address.as_str(), key, head).await;
    }
}

/// Whether the log that is shown at an address is this one: a second relay with the pairing takes each
/// token once more. TLS and onion services are not asked.
async fn check_answer(report: &mut Report, address: &str, key: &VerifierKey, head: u64) {
    let check = "log";
    let Ok(answer) = probe::get(address, "/checkpoint", false).await else { return };
    if answer.status != StatusCode::OK {
        return;
    }
    let shown = str::from_utf8(&answer.body).ok().map(|note| Checkpoint::open(note, key));
    match shown {
        Some(Ok(shown)) if shown.size >= head => {
            report.good(check, format!("{address}: this log is shown there"));
        }
        Some(Ok(shown)) => report.bad(
            check,
            format!(
                "{address}: shows {} of the {head} messages: a copy of this relay runs there, and \
                 takes tokens that were spent here. Stop one of the two, and renew the pairing",
                shown.size
            ),
        ),
        _ => report.bad(
            check,
            format!(
                "{address}: what is shown there is not signed with log.key: another relay runs there. \
                 Set `addresses` right, or stop that one; if it has this pairing, renew it"
            ),
        ),
    }
}

/// Whether `log.key` is the one that the log is signed with.
pub(super) async fn check_key(report: &mut Report, store: &Store, key: &LogKey) {
    let check = "log key";
    match store.key().await {
        Ok(Some(signed)) if signed != key.verifier().to_string() => report.bad(
            check,
            format!(
                "the log in the database is signed with another key, {signed}; put its log.key back \
                 from a backup"
            ),
        ),
        Ok(_) => {}
        Err(error) => report.bad(check, error.to_string()),
    }
}

/// Whether the files of all sealed bundles are there. What is in them `db check` reads.
pub(super) async fn check_sealed(
    report: &mut Report,
    store: &Store,
    folder: Option<&Folder>,
) -> Result<(), StoreError> {
    let check = "sealed";
    let sealed = store.sealed().await?;
    let Some(folder) = folder else {
        match sealed.is_empty() {
            true => report.good(check, "all messages are in the database; log.folder is not set"),
            false => report.bad(
                check,
                "messages are sealed in files, and log.folder does not say where; set it in \
                 config.toml",
            ),
        }
        return Ok(());
    };
    let path = folder.path().display().to_string();
    match (folder.key()?, store.key().await?) {
        (None, _) if sealed.is_empty() => {
            report.good(check, format!("{path}: nothing is sealed yet"));
            return Ok(());
        }
        (None, _) => report.bad(
            check,
            format!(
                "{path}: this is no folder of sealed messages; is it mounted, and log.folder right?"
            ),
        ),
        (Some(theirs), Some(ours)) if theirs != ours => report.bad(
            check,
            format!(
                "{path}: in it are the messages of another log; set log.folder to that of this one"
            ),
        ),
        (Some(_), _) => {}
    }
    let mut missing = folder.missing(sealed.clone())?;
    // A relay may have dropped some meanwhile.
    let now = store.sealed().await?;
    missing.retain(|bundle| now.contains(bundle));
    match missing.first() {
        None if sealed.is_empty() => report.good(check, format!("{path}: nothing is sealed yet")),
        None => {
            let count = sealed.end - sealed.start;
            report.good(check, format!("{path}: all {count} files of sealed messages are there"));
        }
        Some(first) => report.bad(
            check,
            format!(
                "{} of {} files of sealed messages are not there, or have another length, the first \
                 one {}; put them back from a backup. `serve` says how to go on without",
                missing.len(),
                sealed.end - sealed.start,
                folder.bundle_path(*first).display()
            ),
        ),
    }
    if folder.path().exists() {
        report.check_space(folder.path());
    }
    Ok(())
}
