//! `tocyn-issuer doctor`.

use tocyn_protocol::directory::{DIRECTORY_PATH, IssuerDirectory};
use tocyn_protocol::pairing::Pairing;
use tocyn_protocol::relay::RelayInfo;

use tocyn_service::doctor::{KeysAt, ListensOn, Report};

use super::serve::credentials;
use super::{CliResult, Settings, ledger};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::store::Store;

#[derive(clap::Args)]
pub(super) struct Doctor {
    /// Ask this relay too whether it has the same pairing: http://HOST:PORT or unix:PATH.
    #[arg(long, value_name = "URL")]
    relay: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const OWN: KeysAt = KeysAt {
    service: "issuer",
    path: DIRECTORY_PATH,
    read: |body| Some(serde_json::from_slice::<IssuerDirectory>(body).ok()?.token_keys),
};

const RELAY: KeysAt = KeysAt {
    service: "relay",
    path: "/v1/info",
    read: |body| Some(serde_json::from_slice::<RelayInfo>(body).ok()?.plain_keys()),
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
        let pairing = match data.pairing() {
            Ok(pairing) => {
                report.check_epoch(&pairing, now);
                Some(pairing)
            }
            Err(error) => {
                report.bad("pairing", error.to_string());
                None
            }
        };
        match &settings {
            Err(error) => report.bad("settings", format!("{error}; then ask the doctor again")),
            Ok(settings) => {
                report.good("settings", "they can be used; `config show` shows them");
                let database = settings.database.file();
                let Config { admin, attesters, database: set, .. } = &settings.config;
                if let Err(error) = credentials(data, &settings.config) {
                    report.bad("settings", error.to_string());
                }
                let set = [&set.url, &admin.credential, &attesters.webhook.credential];
                report.check_secrets(data.path(), database, &set);
                check_database(&mut report, settings, pairing.as_ref(), now).await;
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
        if let (Some(url), Some(pairing)) = (&self.relay, &pairing) {
            report.check_peer(url, pairing, now, &RELAY).await;
        }
        report.print(self.json)
    }
}

async fn check_database(
    report: &mut Report,
    settings: &Settings,
    pairing: Option<&Pairing>,
    now: u64,
) {
    let database = &settings.database;
    let store = match Store::look_at(database).await {
        Ok(Some(store)) => store,
        Ok(None) => {
            let text = format!("{database}: nothing is in it yet; `serve` makes its tables");
            return report.warn("database", text);
        }
        Err(error) => return report.bad("database", error.to_string()),
    };
    report.good("database", format!("{database}: it can be read, and its tables are up to date"));
    if let Some(pairing) = pairing {
        match store.standing(pairing).await {
            Ok(standing) => report.check_standing(standing),
            Err(error) => report.bad("database", error.to_string()),
        }
    }
    match store.ledger().await {
        Ok(rows) => {
            let good = ledger::check(&rows).map(|()| "no more was redeemed than was handed out");
            report.note("ledger", good);
        }
        Err(error) => report.bad("ledger", error.to_string()),
    }
    if database.is_shared() {
        let clock = store.check_clock(now).await;
        report.note("clocks", clock.map(|()| "this machine's and the database's agree"));
    }
    store.close().await;
}
