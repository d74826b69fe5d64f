//! `tocyn-relay serve`.

use tocyn_protocol::log::note::LogKey;
use tocyn_protocol::pairing::Pairing;
use tocyn_service::listen::{Address, Addresses, Listeners};
use tocyn_service::serve::stop_signal;

use super::{CliResult, Settings};
use crate::data_dir::DataDir;
use crate::log::Log;
use crate::messages::Messages;
use crate::statements::Statements;
use crate::store::Store;
use crate::{Clock, run};

pub(super) async fn serve(
    data: &DataDir,
    listen: Option<Address>,
    settings: Settings,
    clock: Clock,
) -> CliResult {
    let folder = settings.log_folder(data);
    let pairing = data.pairing()?;
    if let Some(why) = data.restored()?.and_then(|restored| restored.refusal(&pairing)) {
        return Err(format!("{}: {why}", data.path().display()).into());
    }
    // Several relays may share a folder if they share a server.
    let shared = settings.database.is_shared();
    let _lock = if shared { data.lock_shared()? } else { data.lock()? };
    if shared {
        Store::leave_file(&data.database_path()).await?;
    }
    let now = clock();
    let key = check_before_binding(data, &settings, &pairing, now).await?;
    let Settings { mut config, database } = settings;
    if let Some(address) = listen {
        config.listen = Addresses(vec![address]);
    }
    let store = Store::open(&database, &pairing, config.cell_bytes).await?;
    let log = Log::open(store.clone(), key, &pairing, &config, now).await?;
    let messages =
        Messages::open(store, folder.as_deref(), log.verifier(), config.cell_bytes).await?;
    let shutdown = stop_signal()?;
    let listeners =
        Listeners::open(&config.listen, &config.admin.listen, data.path(), shared).await?;
    listeners.announce()?;
    run(&config, pairing, messages, log, listeners, clock, shutdown).await;
    Ok(())
}

/// Refuses what does not go together while nothing is changed: a database that is tied to another
/// pairing forgets which tokens of the one before were spent. Returns the key that signs the log.
async fn check_before_binding(
    data: &DataDir,
    settings: &Settings,
    pairing: &Pairing,
    now: u64,
) -> Result<LogKey, Box<dyn std::error::Error>> {
    let path = data.log_key_path();
    let own = path.exists().then(|| data.log_key(pairing.origin_name())).transpose()?;
    // Where it cannot be looked at yet, there are no statements in it; opening it says what is wrong.
    let Ok(store) = Store::look_at(&settings.database).await else {
        return Ok(own.map_or_else(|| data.log_key(pairing.origin_name()), Ok)?);
    };
    let key = match (own, store.key().await?) {
        (Some(key), _) => key,
        (None, None) => data.log_key(pairing.origin_name())?,
        (None, Some(signed)) => {
            let path = path.display();
            return Err(format!(
                "{path} is not there, and the log is signed with {signed}; put its key back from a \
                 backup"
            )
            .into());
        }
    };
    let checked = Statements::check(&store, &key.verifier(), pairing, &settings.config, now).await;
    store.close().await;
    checked?;
    Ok(key)
}
