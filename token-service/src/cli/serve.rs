//! `tocyn-issuer serve`.

use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use tocyn_service::folder::create;
use tocyn_service::listen::{Address, Addresses, Listeners};
use tocyn_service::open_files;
use tocyn_service::secret::Secret;
use tocyn_service::serve::stop_signal;

use super::own::check_there;
use super::{CREDENTIAL, CliResult, Settings};
use crate::attester::Attester;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::http::operator::{Credentials, MIN_CREDENTIAL};
use crate::store::Store;
use crate::{Clock, run};

pub(super) async fn serve(
    data: &DataDir,
    listen: Option<Address>,
    open: bool,
    settings: Settings,
    clock: Clock,
) -> CliResult {
    let Settings { mut config, database, sources } = settings;
    let pairing = data.pairing()?;
    // Several issuers may share a folder if they share a server.
    let _lock = if database.is_shared() { data.lock_shared()? } else { data.lock()? };
    if let Some(address) = listen {
        config.listen = Addresses(vec![address]);
    }
    if database.is_shared() {
        Store::leave_file(&data.database_path()).await?;
    }
    match (config.attesters.open.enabled, open) {
        (true, false) => {
            return Err(
                "attesters.open.enabled gives tokens to everyone; if that is meant, start \
                `serve --open`"
                    .into(),
            );
        }
        (false, true) => {
            return Err("--open: attesters.open.enabled is false in the settings".into());
        }
        (true, true) => tracing::warn!("open: everyone who reaches this issuer is given tokens"),
        (false, false) => {}
    }
    check_there(data, &database)?;
    open_files::raise(config.limits.max_connections);
    let shared = database.is_shared();
    // Before the database is tied to the pairing: a start that fails takes nothing from others.
    let listeners =
        Listeners::open(&config.listen, &config.admin.listen, data.path(), shared).await?;
    let store = Store::open(&database).await?;
    // After the database: where there is a credential, there was a database.
    make_credential(data, &config)?;
    let credentials = credentials(data, &config).map_err(|error| sources.blame(error))?;
    let credentials = credentials.ok_or("admin.credential was just made, and is gone")?;
    store.bind(&pairing).await?;
    for attester in Attester::ALL.into_iter().filter(|attester| attester.is_shared()) {
        store.make_account(attester).await?;
    }
    let shutdown = stop_signal()?;
    listeners.announce()?;
    Ok(run(&config, pairing, store, listeners, credentials, clock, shutdown).await?)
}

/// The operator's own credential, at the first start.
fn make_credential(data: &DataDir, config: &Config) -> CliResult {
    let path = data.file(CREDENTIAL);
    if config.admin.credential.is_none() && !path.exists() {
        let mut bytes = zeroize::Zeroizing::new([0; 32]);
        UnwrapErr(SysRng).fill_bytes(bytes.as_mut());
        create(&path, hex::encode(bytes.as_slice()).as_bytes())?;
    }
    Ok(())
}

/// Credentials of the operator's listener; None before the first start has made one.
pub(super) fn credentials(
    data: &DataDir,
    config: &Config,
) -> Result<Option<Credentials>, Box<dyn std::error::Error>> {
    let read = |what: &str, secret: &Secret| {
        let text = secret.read().map_err(|error| format!("{what}: {error}"))?;
        match text.len() {
            MIN_CREDENTIAL.. => Ok(text),
            _ => Err(format!("{what}: a credential has at least {MIN_CREDENTIAL} characters")),
        }
    };
    let webhook = &config.attesters.webhook;
    let webhook = match webhook.enabled {
        true => Some(read("attesters.webhook.credential", &webhook.credential)?),
        false => None,
    };
    let path = data.file(CREDENTIAL);
    let own = Secret::from(format!("file:{}", path.display()).as_str());
    let operator = match config.admin.credential.is_none() {
        true if !path.exists() => return Ok(None),
        true => &own,
        false => &config.admin.credential,
    };
    Ok(Some(Credentials { operator: read(CREDENTIAL, operator)?, webhook }))
}
