//! `tocyn-relay doctor`.

mod log;

use tocyn_protocol::directory::{DIRECTORY_PATH, IssuerDirectory};
use tocyn_protocol::log::note::LogKey;
use tocyn_protocol::pairing::Pairing;
use tocyn_protocol::relay::RelayInfo;
use tocyn_protocol::statement::Signed;
use tocyn_protocol::statement::tree::EpochTree;
use tocyn_service::doctor::{KeysAt, ListensOn, Report, Standing};

use super::{CliResult, Settings};
use crate::bundles::Folder;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::statements::Statements;
use crate::store::{NOTHING_YET, Store, StoreError};

#[derive(clap::Args)]
pub(super) struct Doctor {
    /// Ask this issuer too whether it has the same pairing: http://HOST:PORT or unix:PATH.
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const OWN: KeysAt = KeysAt {
    service: "relay",
    path: "/v1/info",
    read: |body| Some(serde_json::from_slice::<RelayInfo>(body).ok()?.plain_keys()),
};

const ISSUER: KeysAt = KeysAt {
    service: "issuer",
    path: DIRECTORY_PATH,
    read: |body| Some(serde_json::from_slice::<IssuerDirectory>(body).ok()?.token_keys),
};

impl Doctor {
    /// Looks at all, and changes nothing.
    pub(super) async fn run(
        self,
        data: &DataDir,
        settings: Result<Settings, Box<dyn std::error::Error>>,
        now: u64,
    ) -> CliResult {
        let mut report = Report::default();
        if let Err(error) = data.check() {
            report.bad("folder", error.to_string());
            return report.print(self.json);
        }
        let pairing = check_pairing(&mut report, data, now);
        match &settings {
            Err(error) => report.bad("settings", format!("{error}; then ask the doctor again")),
            Ok(settings) => {
                report.good("settings", "they can be used; `config show` shows them");
                let database = settings.database.file();
                report.check_secrets(data.path(), database, &[&settings.config.database.url]);
                check_addresses(&mut report, &settings.config);
                check_database(&mut report, data, settings, pairing.as_ref(), now).await;
                report.check_space(data.path());
                let config = &settings.config;
                let on = ListensOn {
                    public: &config.listen,
                    admin: &config.admin.listen,
                    proxy_protocol: config.proxy_protocol,
                    folder: data.path(),
                };
                report.check_serving(on, pairing.as_ref(), &OWN).await;
            }
        }
        if let (Some(url), Some(pairing)) = (&self.issuer, &pairing) {
            report.check_peer(url, pairing, now, &ISSUER).await;
        }
        report.print(self.json)
    }
}

/// The pairing, the log's key, and whether the pairing may be used after a restore.
fn check_pairing(report: &mut Report, data: &DataDir, now: u64) -> Option<Pairing> {
    let pairing = match data.pairing() {
        Ok(pairing) => pairing,
        Err(error) => {
            report.bad("pairing", error.to_string());
            return None;
        }
    };
    report.check_epoch(&pairing, now);
    match data.restored() {
        Ok(restored) => {
            if let Some(why) = restored.and_then(|restored| restored.refusal(&pairing)) {
                report.bad("pairing", why);
            }
        }
        Err(error) => report.bad("pairing", error.to_string()),
    }
    let key = own_key(data, &pairing);
    report.note("log key", key.map(|_| "log.key is there, and of this relay"));
    Some(pairing)
}

/// Clients take no address that the relay has not signed.
fn check_addresses(report: &mut Report, config: &Config) {
    let check = "addresses";
    match (config.addresses.is_empty(), &config.issuer_address) {
        (false, Some(issuer)) => {
            let all: Vec<&str> = config.addresses.iter().map(|address| address.as_str()).collect();
            report.good(check, format!("{}; the issuer: {issuer}", all.join(", ")));
        }
        (true, _) => report.warn(
            check,
            "`addresses` is empty: only clients on this machine can use this relay. Set every \
             address at which clients reach it, and start it again",
        ),
        (_, None) => report.warn(
            check,
            "`issuer_address` is empty: only clients on the issuer's machine can buy tokens. Set \
             where clients reach the issuer, and start this relay again",
        ),
    }
}

/// Whether the newest statement of keys says what pairing and settings say.
async fn check_statement(
    report: &mut Report,
    store: &Store,
    config: &Config,
    pairing: &Pairing,
    key: &LogKey,
    now: u64,
) {
    let check = "statement";
    if let Err(error) = Statements::check(store, &key.verifier(), pairing, config, now).await {
        return report.bad(check, format!("`serve` refuses this pairing: {error}"));
    }
    let newest = match store.statements().await {
        Ok(statements) => statements.into_iter().next_back(),
        Err(error) => return report.bad(check, error.to_string()),
    };
    let Some(newest) = newest else {
        return report.warn(check, "none is signed yet; `serve` signs one");
    };
    let newest = match Signed::open(&newest.note, &key.verifier()) {
        Ok(signed) => signed,
        Err(error) => return report.bad(check, format!("statement {}: {error}", newest.serial)),
    };
    let (serial, root) = (newest.serial, EpochTree::of(pairing).root());
    if (newest.schedule, newest.root) != (pairing.schedule(), root) {
        report.warn(
            check,
            format!(
                "number {serial} has other keys than pairing.toml; if that was renewed, the next \
                 `serve` signs them. If not, install the issuer's newest pairing.toml"
            ),
        );
    } else if (&newest.addresses, &newest.issuer_address)
        != (&config.addresses, &config.issuer_address)
    {
        report.warn(
            check,
            format!("number {serial} has other addresses than the settings; start the relay again"),
        );
    } else {
        report.good(check, format!("number {serial} has these keys and addresses"));
    }
}

/// Reads `log.key`, which `serve` would make if it is not there.
fn own_key(data: &DataDir, pairing: &Pairing) -> Result<LogKey, String> {
    let path = data.log_key_path();
    match path.exists() {
        true => data.log_key(pairing.origin_name()).map_err(|error| {
            format!("{error}; put it back from a backup, or the pairing, whichever is wrong")
        }),
        false => Err(format!(
            "{} is not there; put it back from a backup. Without it the log cannot go on",
            path.display()
        )),
    }
}

async fn check_database(
    report: &mut Report,
    data: &DataDir,
    settings: &Settings,
    pairing: Option<&Pairing>,
    now: u64,
) {
    let database = &settings.database;
    let store = match Store::look_at(database).await {
        Ok(store) => store,
        Err(StoreError::Open { reason, .. }) if reason == NOTHING_YET => {
            let text = format!("{database}: {reason}; `serve` makes its tables");
            return report.warn("database", text);
        }
        Err(error) => return report.bad("database", error.to_string()),
    };
    report.good("database", format!("{database}: it can be read, and its tables are up to date"));
    let mut was_replaced = false;
    if let Some(pairing) = pairing {
        match store.standing(pairing).await {
            Ok(standing) => {
                report.check_standing(standing);
                was_replaced = standing == Standing::Replaced;
            }
            Err(error) => report.bad("database", error.to_string()),
        }
    }
    if database.is_shared() {
        let clock = store.check_clock(now).await;
        report.note("clocks", clock.map(|()| "this machine's and the database's agree"));
    }
    if let Some((pairing, Ok(key))) = pairing.map(|pairing| (pairing, own_key(data, pairing))) {
        // With another key there is worse to say, below; and with a pairing of before it was said.
        if !was_replaced
            && matches!(store.key().await, Ok(Some(bound)) if bound == key.verifier().to_string())
        {
            check_statement(report, &store, &settings.config, pairing, &key, now).await;
        }
        log::check_key(report, &store, &key).await;
        log::check_size(report, data, settings, (&store, pairing, &key.verifier())).await;
    }
    let cell_bytes = settings.config.cell_bytes;
    let folder = settings.log_folder(data).map(|path| Folder::new(path, cell_bytes));
    if let Err(error) = log::check_sealed(report, &store, folder.as_ref()).await {
        report.bad("sealed", error.to_string());
    }
    store.close().await;
}
