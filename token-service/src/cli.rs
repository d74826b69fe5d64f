//! The commands of `tocyn-issuer`.

mod backup;
mod db;
mod doctor;
mod ledger;
mod voucher;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use serde_json::json;
use tocyn_protocol::directory::TokenKey;
use tocyn_protocol::pairing::Pairing;
use tocyn_service::config::{ConfigCommand, Places, Sources};
use tocyn_service::database::Database;
use tocyn_service::doctor::Standing;
use tocyn_service::folder::{create, pairing_text};
use tocyn_service::listen::{Address, Addresses, Listeners};
use tocyn_service::open_files;
use tocyn_service::output::{print, stdout};
use tocyn_service::program::{LogFormat, VERSION};
use tocyn_service::secret::Secret;
use tocyn_service::serve::stop_signal;

use crate::attester::Attester;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::http::operator::{Credentials, MIN_CREDENTIAL};
use crate::store::Store;
use crate::{Clock, run, system_clock};
use tocyn_service::time_text;

/// The settings at their defaults, with what they mean.
const EXAMPLE: &str = include_str!("../config.example.toml");

type CliResult<T = ()> = Result<T, Box<dyn std::error::Error>>;
/// The operator's own credential, which the first `serve` makes.
const CREDENTIAL: &str = "admin.credential";

/// Hands out blinded tokens against vouchers.
#[derive(Parser)]
#[command(name = "tocyn-issuer", version = VERSION)]
pub struct Cli {
    /// Folder with config, pairing and database; needed by every command.
    #[arg(long, global = true, value_name = "DIR", env = "TOCYN_ISSUER_DATA")]
    data: Option<PathBuf>,
    /// Settings that come before all others; see `config show` for where they come from.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How log lines are written to stderr.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub log: LogFormat,
    /// Database instead of the configured one: sqlite:///absolute/path, or
    /// postgres://USER@HOST/DATABASE.
    #[arg(long, global = true, value_name = "URL")]
    database: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the data folder: config.toml, and pairing.toml to copy to the relay.
    Init {
        /// Name of this issuer, as clients see it.
        #[arg(long)]
        issuer_name: String,
        /// Name of the origin that takes the tokens: the relay.
        #[arg(long)]
        origin_name: String,
        /// How long a key is used; a token lives one to two epochs.
        #[arg(long, default_value = "7d", value_parser = humantime::parse_duration)]
        epoch: Duration,
    },
    /// Answer token requests until SIGTERM.
    Serve {
        /// Listen on ADDR:PORT (port 0 picks a free one) or unix:PATH instead of what is set.
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<Address>,
        /// Give everyone tokens for nothing; `attesters.open` in the settings must say so too.
        #[arg(long)]
        open: bool,
    },
    /// Make, list and revoke vouchers.
    #[command(subcommand)]
    Voucher(voucher::VoucherCommand),
    /// Compare what was handed out with what the relay has redeemed.
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Show or renew the pairing with the relay.
    #[command(subcommand)]
    Pairing(PairingCommand),
    /// The public keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Make, check and show the settings.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look after the database, or move to another one.
    #[command(subcommand)]
    Db(db::DbCommand),
    /// See whether all is as it should be, and say what to do where it is not. Changes nothing, and
    /// works beside a running issuer. Fails if something is bad.
    Doctor(doctor::Doctor),
    /// Write a complete, checked copy of all into a new folder, also beside a running issuer.
    Backup {
        /// A folder that is not there or empty.
        dir: PathBuf,
    },
    /// Make the data folder, which must not be there or be empty, from a backup, with a new pairing
    /// for the relay: what was handed out since the backup is void.
    Restore {
        /// Keep the pairing. Only where no issuer has served since the backup. With PostgreSQL it is
        /// always kept.
        #[arg(long)]
        keep_pairing: bool,
        /// What `backup` wrote.
        dir: PathBuf,
    },
}

#[derive(Subcommand)]
enum PairingCommand {
    /// Show the pairing without its secret.
    Show {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Replace the secret. Without --planned every token that was handed out becomes worthless at
    /// once: do that after a leak, and after a restore from a backup.
    Renew {
        /// The new secret has the keys from the next epoch on, and no token becomes worthless. Issuer
        /// and relay both need the new file before that epoch begins.
        #[arg(long)]
        planned: bool,
    },
}

#[derive(Subcommand)]
enum KeyCommand {
    /// List the current and the next public key.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

impl Cli {
    /// Runs the command.
    pub fn run(self) -> CliResult {
        self.run_with(system_clock())
    }

    /// Runs the command by this clock.
    pub fn run_with(self, clock: Clock) -> CliResult {
        let Some(data) = self.data.map(DataDir::new) else {
            Self::command()
                .error(ErrorKind::MissingRequiredArgument, "give --data DIR, the data folder")
                .exit()
        };
        let places = Places::new("issuer", self.config.clone(), data.path());
        let settings = || Settings::read(&data, &places, self.database.as_deref());
        let runtime = tokio::runtime::Runtime::new()?;
        match self.command {
            Command::Init { .. } | Command::Restore { .. } | Command::Config(_) => {}
            Command::Doctor(_) => {} // reports it
            _ => data.check()?,
        }
        match self.command {
            Command::Init { issuer_name, origin_name, epoch } => {
                init(&data, &issuer_name, &origin_name, epoch, clock())
            }
            Command::Serve { listen, open } => {
                runtime.block_on(serve(&data, listen, open, settings()?, clock))
            }
            Command::Voucher(command) => runtime.block_on(command.run(&data, settings()?, clock())),
            Command::Ledger(command) => runtime.block_on(command.run(&data, settings()?, clock())),
            Command::Pairing(PairingCommand::Show { json }) => show_pairing(&data, json, clock()),
            Command::Pairing(PairingCommand::Renew { planned: false }) => {
                runtime.block_on(renew(&data, &settings()?.database, &clock))
            }
            Command::Pairing(PairingCommand::Renew { planned: true }) => {
                plan_renewal(&data, clock())
            }
            Command::Key(KeyCommand::List { json }) => list_keys(&data, json, clock()),
            Command::Config(command) => command.run(&places, EXAMPLE, |config: &Config| {
                credentials(&data, config)?;
                Database::find(&config.database.url, None, data.database_path())?;
                Ok(())
            }),
            Command::Db(command) => runtime.block_on(command.run(&data, settings()?, clock())),
            Command::Doctor(doctor) => runtime.block_on(doctor.run(&data, settings(), clock())),
            Command::Backup { dir } => {
                runtime.block_on(backup::backup(&data, settings()?, &dir, clock()))
            }
            Command::Restore { keep_pairing, dir } => {
                let (config, database) = (self.config, self.database.as_deref());
                let restore = backup::restore(&data, config, database, &dir, keep_pairing, &clock);
                runtime.block_on(restore)
            }
        }
    }
}

/// What the data folder and the command line say.
struct Settings {
    config: Config,
    database: Database,
    sources: Sources,
}

impl Settings {
    fn read(
        data: &DataDir,
        places: &Places,
        database: Option<&str>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let loaded = places.read::<Config>()?;
        let (config, sources) = (loaded.settings, loaded.sources);
        let found = Database::find(&config.database.url, database, data.database_path());
        let database = match database {
            None => found.map_err(|error| sources.blame(error))?,
            Some(_) => found.map_err(|error| format!("--database: {error}"))?,
        };
        Ok(Self { database, config, sources })
    }
}

fn init(
    data: &DataDir,
    issuer_name: &str,
    origin_name: &str,
    epoch: Duration,
    now: u64,
) -> CliResult {
    let rng = &mut UnwrapErr(SysRng);
    let pairing = Pairing::generate(issuer_name, origin_name, now, epoch.as_secs(), rng)?;
    data.create()?;
    create(&data.pairing_path(), pairing_text(&pairing).as_bytes())?;
    create(&data.config_path(), EXAMPLE.as_bytes())?;
    print(format_args!(
        "wrote {} and {}\n\
         its keys last until {}; `doctor` says in time when to renew them\n\
         now copy the pairing file to the relay: tocyn-relay --data DIR init --pairing FILE",
        data.config_path().display(),
        data.pairing_path().display(),
        time_text(pairing.schedule().last_end())
    ))?;
    Ok(())
}

async fn serve(
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

/// Refuses to begin a new database where there was one: its vouchers would be unknown, and its budgets
/// would begin anew.
fn check_there(data: &DataDir, database: &Database) -> CliResult {
    let credential = data.file(CREDENTIAL);
    match database.file() {
        Some(file) if !file.exists() && credential.exists() => Err(format!(
            "{}: the database is not there, and this issuer had one. Is its disk mounted, and \
             database.url right? If it is lost, make a data folder of a backup with `tocyn-issuer \
             --data DIR restore`. To begin anew, without its vouchers, remove {} first",
            file.display(),
            credential.display()
        )
        .into()),
        _ => Ok(()),
    }
}

/// Opens the database for a command, unless it is another issuer's.
async fn open_own(data: &DataDir, database: &Database) -> CliResult<Store> {
    check_there(data, database)?;
    let pairing = data.pairing()?;
    let store = Store::open(database).await?;
    match store.standing(&pairing).await {
        Ok(Standing::Foreign) => {
            store.close().await;
            Err(format!(
                "{database}: it belongs to another issuer or another pairing, and nothing was \
                 changed; set database.url right, or give --data the data folder that goes with it. \
                 `doctor` says more"
            )
            .into())
        }
        Ok(_) => Ok(store),
        Err(error) => {
            store.close().await;
            Err(error.into())
        }
    }
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

/// What the operator's listener asks for; None before the first start has made the operator's.
fn credentials(
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
    Ok(Some(Credentials { operator: read("admin.credential", operator)?, webhook }))
}

fn show_pairing(data: &DataDir, json: bool, now: u64) -> CliResult {
    let pairing = data.pairing()?;
    let epoch = pairing.schedule().epoch_at(now)?;
    if json {
        print(json!({
            "issuer_name": pairing.issuer_name(),
            "origin_name": pairing.origin_name(),
            "genesis": pairing.schedule().genesis,
            "epoch_seconds": pairing.schedule().epoch_seconds,
            "epoch": epoch,
            "epochs": pairing.schedule().count,
            "renewed_at": pairing.renewed_at(),
        }))?;
        return Ok(());
    }
    let mut out = stdout();
    writeln!(out, "issuer   {}", pairing.issuer_name())?;
    writeln!(out, "origin   {}", pairing.origin_name())?;
    writeln!(out, "genesis  {}", time_text(pairing.schedule().genesis))?;
    let length = humantime::format_duration(Duration::from_secs(pairing.schedule().epoch_seconds));
    let end = time_text(pairing.schedule().end(epoch));
    writeln!(out, "epoch    {epoch}, of {length}, until {end}")?;
    writeln!(out, "keys     until {}", time_text(pairing.schedule().last_end()))?;
    if let Some(below) = pairing.renewed_at() {
        let start = time_text(pairing.schedule().start(below));
        writeln!(out, "renewed  as planned, with new keys from epoch {below} on, from {start}")?;
    }
    writeln!(out, "secret   not shown; it is in {}", data.pairing_path().display())?;
    Ok(())
}

/// A pairing that begins now, for the same names; and when that is.
fn renewed(old: &Pairing, clock: &Clock) -> Result<(Pairing, u64), Box<dyn std::error::Error>> {
    // Clients tell the epochs of two pairings apart by their start.
    if clock() == old.schedule().genesis {
        std::thread::sleep(Duration::from_secs(1));
    }
    let now = clock();
    Ok((old.successor(now, &mut UnwrapErr(SysRng))?, now))
}

async fn renew(data: &DataDir, database: &Database, clock: &Clock) -> CliResult {
    let _lock = data.lock()?;
    let old = data.pairing()?;
    let (fresh, now) = renewed(&old, clock)?;
    // The database may be tied to another one still, as after a restore. Where it cannot be asked
    // now, `serve` asks it.
    let mut bound = None;
    if let Ok(Some(store)) = Store::look_at(database).await {
        bound = store.tied_to(&old).await?;
        store.close().await;
    }
    let kept = data.replace_pairing(&fresh.replacing(bound), now)?;
    print(format_args!(
        "wrote a new {}; the old one is {}",
        data.pairing_path().display(),
        kept.display()
    ))?;
    print(
        "copy it to every other issuer's data folder, and to the relay's machine for `tocyn-relay pairing install FILE` (or to /etc/tocyn there, where a unit takes it from); then start all again. Tokens handed out so far are void",
    )?;
    Ok(())
}

/// A new secret from a later epoch on.
fn plan_renewal(data: &DataDir, now: u64) -> CliResult {
    let _lock = data.lock()?;
    let old = data.pairing()?;
    let fresh = old.renewed(now, &mut UnwrapErr(SysRng))?;
    let kept = data.replace_pairing(&fresh, now)?;
    let below = fresh.renewed_at().expect("it was renewed just now");
    print(format_args!(
        "wrote a new {}; the old one is {}",
        data.pairing_path().display(),
        kept.display()
    ))?;
    print(format_args!(
        "copy it to every other issuer's data folder, and to the relay's machine for `tocyn-relay \
         pairing install FILE` (or to /etc/tocyn there, where a unit takes it from); then start all \
         again, before {}: then epoch {below} begins, whose keys come from the new secret. All tokens \
         stay good",
        time_text(fresh.schedule().start(below))
    ))?;
    if fresh.schedule().count == old.schedule().count {
        print(format_args!(
            "the keys end at {} as before: a pairing has no more epochs than that. Before then, run \
             `tocyn-issuer pairing renew`, which voids all tokens",
            time_text(fresh.schedule().last_end())
        ))?;
    }
    Ok(())
}

fn list_keys(data: &DataDir, json: bool, now: u64) -> CliResult {
    let pairing = data.pairing()?;
    let keys: Vec<TokenKey> = pairing
        .schedule()
        .listed_by_issuer(now)?
        .into_iter()
        .map(|epoch| TokenKey::for_epoch(&pairing, epoch))
        .collect();
    if json {
        return Ok(print(serde_json::to_string(&keys)?)?);
    }
    for key in keys {
        let (from, to) = (time_text(key.not_before), time_text(key.not_after));
        print(format_args!("epoch {}  {}  from {from} to {to}", key.epoch, key.token_key))?;
    }
    Ok(())
}
