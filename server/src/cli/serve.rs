//! `tocyn-relay serve`.

use std::sync::Arc;

use tocyn_protocol::log::note::LogKey;
use tocyn_protocol::pairing::Pairing;
use tocyn_service::folder::FolderError;
use tocyn_service::listen::{Address, Addresses, Listeners};
use tocyn_service::open_files;
use tocyn_service::serve::stop_signal;

use super::went_back::Known;
use super::{CliResult, Settings};
use crate::data_dir::DataDir;
use crate::log::Log;
use crate::messages::Messages;
use crate::signed::{SignedFile, keep_forever};
use crate::statements::Statements;
use crate::store::{NOTHING_YET, Store, StoreError};
use crate::{Clock, alone, run};

pub(super) async fn serve(
    data: &DataDir,
    listen: Option<Address>,
    mut settings: Settings,
    clock: Clock,
) -> CliResult {
    let pairing = data.pairing()?;
    if let Some(why) = data.restored()?.and_then(|restored| restored.refusal(&pairing)) {
        return Err(format!("{}: {why}", data.path().display()).into());
    }
    // Several relays may share a folder if they share a server.
    let shared = settings.database.is_shared();
    let _lock = if shared { data.lock_shared()? } else { data.lock()? };
    let _alone = match shared {
        true => alone::check(&pairing).map(|()| None)?,
        false => Some(alone::take(&pairing)?),
    };
    if shared {
        Store::leave_file(&data.database_path()).await?;
    }
    if let Some(address) = listen {
        settings.config.listen = Addresses(vec![address]);
    }
    open_files::raise(settings.config.limits.max_connections);
    let now = clock();
    // Whatever can be refused is refused before the database is tied to the pairing: then it forgets
    // which tokens of the one before were spent.
    let own = check_database(data, &settings, &pairing, now).await?;
    let (listen, admin) = (&settings.config.listen, &settings.config.admin.listen);
    let listeners = Listeners::open(listen, admin, data.path(), shared).await?;
    let folder = settings.log_folder(data);
    let Settings { config, database } = settings;
    let key = match own {
        Some(key) => key,
        None => data.log_key(pairing.origin_name())?,
    };
    let store = Store::open(&database, &pairing, &key.verifier(), config.cell_bytes).await?;
    let log = Log::open(store.clone(), key, &pairing, &config, now).await?;
    let messages =
        Messages::open(store, folder.as_deref(), log.verifier(), config.cell_bytes).await?;
    let path = data.signed_path();
    let unwritable = |source| FolderError::io(&path, source, "");
    let signed = Arc::new(SignedFile::open(&path, pairing.id())?);
    signed.serve_with(pairing.id()).map_err(unwritable)?;
    let sizes = log.signed();
    let shutdown = stop_signal()?;
    listeners.announce()?;
    // Connections that were cut off may hold the log for longer, and are not waited for.
    let ended = tokio::select! {
        ended = run(&config, pairing, messages, log, listeners, clock, shutdown) => ended,
        never = keep_forever(signed.clone(), sizes.clone()) => match never {},
    };
    signed.raise(*sizes.borrow()).map_err(unwritable)?;
    Ok(ended?)
}

/// Refuses key, pairing and folder that do not go with the database. Returns the key that signs the
/// log, if there is one.
async fn check_database(
    data: &DataDir,
    settings: &Settings,
    pairing: &Pairing,
    now: u64,
) -> CliResult<Option<LogKey>> {
    let path = data.log_key_path();
    let own = path.exists().then(|| data.log_key(pairing.origin_name())).transpose()?;
    if settings.database.file().is_none_or(|file| file.exists()) {
        Store::migrate(&settings.database).await?;
    }
    let key = own.as_ref().map(LogKey::verifier);
    let known = Known::of(data, settings, key.as_ref())?;
    let store = match Store::look_at(&settings.database).await {
        Ok(store) => store,
        Err(StoreError::Open { reason, .. }) if reason == NOTHING_YET => {
            known.check_new(data, &settings.database)?;
            return Ok(own);
        }
        Err(error) => return Err(error.into()),
    };
    let checked = async {
        check_key(data, settings, pairing, &store, own.as_ref(), now).await?;
        let head = store.range().await?.head;
        known.check(data, head, store.pairing_id().await?, pairing)?;
        if store.key().await?.is_some() {
            check_messages(data, settings, &store, own.as_ref()).await?;
        }
        match known.is_ahead_of(head) {
            true => known.accept(data, head, pairing, now),
            false => Ok(()),
        }
    };
    let checked = checked.await;
    store.close().await;
    checked?;
    Ok(own)
}

async fn check_key(
    data: &DataDir,
    settings: &Settings,
    pairing: &Pairing,
    store: &Store,
    own: Option<&LogKey>,
    now: u64,
) -> CliResult {
    let Some(signed) = store.key().await? else { return Ok(()) };
    let path = data.log_key_path();
    let Some(key) = own.map(LogKey::verifier).filter(|key| key.to_string() == signed) else {
        let why = if own.is_some() { "is another key" } else { "is not there" };
        return Err(format!(
            "{} {why}, and the log is signed with {signed}; put its key back from a backup",
            path.display()
        )
        .into());
    };
    Ok(Statements::check(store, &key, pairing, &settings.config, now).await?)
}

/// Refuses a folder that lacks what is sealed, or is another log's.
async fn check_messages(
    data: &DataDir,
    settings: &Settings,
    store: &Store,
    own: Option<&LogKey>,
) -> CliResult {
    let Some(key) = own.map(LogKey::verifier) else { return Ok(()) };
    let (folder, cell_bytes) = (settings.log_folder(data), settings.config.cell_bytes);
    Messages::open(store.clone(), folder.as_deref(), &key, cell_bytes).await?;
    Ok(())
}
