//! The commands of `tocyn-relay`.

mod backup;
mod db;
mod doctor;
mod serve;
mod went_back;

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::pairing::{Pairing, PairingId};
use tocyn_protocol::statement::address::Address as OriginAddress;
use tocyn_service::config::{ConfigCommand, Places, Settings as _};
use tocyn_service::database::Database;
use tocyn_service::folder::create;
use tocyn_service::listen::Address;
use tocyn_service::output::print;
use tocyn_service::program::{LogFormat, VERSION};

use crate::config::Config;
use crate::data_dir::{DataDir, read_pairing};
use crate::restored::Restored;
use crate::statements::Statements;
use crate::store::{Store, StoreError};
use crate::{Clock, system_clock};
use went_back::Known;

/// The settings at their defaults, with what they mean.
const EXAMPLE: &str = include_str!("../config.example.toml");

type CliResult<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Redeems one token for each posted message, and serves every message to everyone.
#[derive(Parser)]
#[command(name = "tocyn-relay", version = VERSION)]
pub struct Cli {
    /// Folder with config, pairing and database; needed by every command.
    #[arg(long, global = true, value_name = "DIR", env = "TOCYN_RELAY_DATA")]
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
    /// Make the data folder from the issuer's pairing file.
    Init {
        /// The pairing file that `tocyn-issuer init` wrote.
        #[arg(long, value_name = "FILE")]
        pairing: PathBuf,
        /// An address at which clients reach this relay: https, or http at an onion service. Give
        /// all of them. Without any, only clients on this machine can use it.
        #[arg(long = "address", value_name = "URL")]
        addresses: Vec<OriginAddress>,
        /// Where clients reach the issuer.
        #[arg(long, value_name = "URL")]
        issuer_address: Option<OriginAddress>,
    },
    /// Take posts and serve reads until SIGTERM.
    Serve {
        /// Listen on ADDR:PORT (port 0 picks a free one) or unix:PATH instead of what is set.
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<Address>,
    },
    /// Make, check and show the settings.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look after the database, or move to another one.
    #[command(subcommand)]
    Db(db::DbCommand),
    /// Change the pairing.
    #[command(subcommand)]
    Pairing(PairingCommand),
    /// See whether all is as it should be, and say what to do where it is not. Changes nothing, and
    /// works beside a running relay. Fails if something is bad.
    Doctor(doctor::Doctor),
    /// Write a complete, checked copy of all into a new folder, also beside a running relay. On the
    /// same file system, sealed files are hard links.
    Backup {
        /// A folder that is not there or empty.
        dir: PathBuf,
    },
    /// Make the data folder, which must not be there or be empty, from a backup. It serves once a
    /// new pairing is installed.
    Restore {
        /// What `backup` wrote.
        dir: PathBuf,
    },
}

#[derive(Subcommand)]
enum PairingCommand {
    /// Put the issuer's renewed pairing file in place of the old one. The messages stay.
    Install {
        #[command(flatten)]
        how: Grounds,
        /// The file that `tocyn-issuer pairing renew` wrote.
        file: PathBuf,
    },
}

#[derive(clap::Args)]
struct Grounds {
    /// After a restore: take a pairing from before it. Only where the database knows of every
    /// token that was spent: no relay has served since the backup, or PostgreSQL lost nothing.
    #[arg(long)]
    nothing_forgotten: bool,
    /// The issuer was begun anew under the same name: take its pairing, which names none of the old
    /// one's. There is no way back: all tokens of the old one become worthless.
    #[arg(long)]
    new_issuer: bool,
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
        let places = Places::new("relay", self.config.clone(), data.path());
        let settings = || Settings::read(&data, &places, self.database.as_deref());
        match self.command {
            Command::Init { .. } | Command::Restore { .. } | Command::Config(_) => {}
            Command::Doctor(_) => {} // reports it
            Command::Pairing(_) => {
                data.check()?;
                data.check_initialized()?;
            }
            _ => data.check()?,
        }
        match self.command {
            Command::Init { pairing, addresses, issuer_address } => {
                init(&data, &pairing, &addresses, issuer_address.as_ref())
            }
            Command::Serve { listen } => {
                run_to_end(serve::serve(&data, listen, settings()?, clock))
            }
            Command::Config(command) => command.run(&places, EXAMPLE, |config: &Config| {
                Database::find(&config.database.url, None, data.database_path())?;
                Ok(())
            }),
            Command::Db(command) => run_to_end(command.run(&data, settings()?, clock())),
            Command::Pairing(PairingCommand::Install { how, file }) => {
                run_to_end(install(&data, settings()?, how, &file, clock()))
            }
            Command::Doctor(doctor) => run_to_end(doctor.run(&data, settings(), clock())),
            Command::Backup { dir } => {
                run_to_end(backup::backup(&data, settings()?, &dir, clock()))
            }
            Command::Restore { dir } => {
                let (config, database) = (self.config, self.database.as_deref());
                run_to_end(backup::restore(&data, config, database, &dir, &clock))
            }
        }
    }
}

/// Puts a pairing in place, unless `serve` would refuse it then.
async fn install(
    data: &DataDir,
    settings: Settings,
    how: Grounds,
    file: &std::path::Path,
    now: u64,
) -> CliResult {
    let _lock = data.lock()?;
    let pairing = read_pairing(file)?;
    let restored = check_restored(data, file, &pairing, how.nothing_forgotten)?;
    let key = data.log_key_path().exists().then(|| data.log_key(pairing.origin_name()));
    let key = key.map(|key| key.map(|key| key.verifier()));
    let own = key.as_ref().and_then(|key| key.as_ref().ok());
    let known = Known::of(data, &settings, own)?;
    let in_file = |error: Box<dyn std::error::Error>| format!("{}: {error}", file.display());
    // Where the database cannot be asked now, `serve` asks it.
    let pairing = match (Store::look_at(&settings.database).await, key) {
        (Ok(store), Some(key)) => {
            let key = key?;
            let checked = async {
                let bound = check_pairing(&store, &key, &pairing, &settings.config, now).await;
                let bound = bound.map_err(in_file)?;
                let pairing = data.replacement(file, bound, how.new_issuer)?;
                let tied = store.pairing_id().await?;
                known.check(data, store.range().await?.head, tied, &pairing)?;
                Ok::<_, Box<dyn std::error::Error>>(pairing)
            };
            let checked = checked.await;
            store.close().await;
            checked?
        }
        _ => data.replacement(file, None, how.new_issuer)?,
    };
    if let Some(restored) = restored {
        restored.write(&data.restored_path())?;
    }
    data.put_pairing(&pairing)?;
    let path = data.pairing_path();
    Ok(print(format_args!("installed {}; start the relay again", path.display()))?)
}

/// Refuses a pairing that clients would not take after the statements in the database. Returns the one
/// that the database is tied to, which the new one may replace, if the database is this relay's.
async fn check_pairing(
    store: &Store,
    key: &VerifierKey,
    pairing: &Pairing,
    config: &Config,
    now: u64,
) -> CliResult<Option<PairingId>> {
    if store.key().await? != Some(key.to_string()) {
        return Ok(None);
    }
    let checked = Statements::check(store, key, pairing, config, now).await;
    checked.map_err(|error| match error {
        StoreError::PairingReplaced => {
            "this pairing was replaced before; install the issuer's newest pairing.toml, or run \
                `tocyn-issuer pairing renew` there"
                .into()
        }
        error => Box::<dyn std::error::Error>::from(error),
    })?;
    Ok(Some(store.pairing_id().await?))
}

/// Refuses a pairing with which tokens could be spent twice after a restore, unless the operator
/// knows better: then returns what to write down.
fn check_restored(
    data: &DataDir,
    file: &std::path::Path,
    pairing: &Pairing,
    nothing_forgotten: bool,
) -> CliResult<Option<Restored>> {
    let Some(mut restored) = data.restored()? else { return Ok(None) };
    let allows = nothing_forgotten && restored.complete;
    if allows {
        restored.allowed = Some(tocyn_service::backup::pairing_id(pairing));
    }
    match restored.refusal(pairing) {
        Some(why) => Err(format!("{}: {why}", file.display()).into()),
        None => Ok(allows.then_some(restored)),
    }
}

/// Threads that wait for a folder that hangs are not waited for.
fn run_to_end(work: impl Future<Output = CliResult>) -> CliResult {
    let runtime = tokio::runtime::Runtime::new()?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(Duration::from_secs(5));
    done
}

/// What the data folder and the command line say.
struct Settings {
    config: Config,
    database: Database,
}

impl Settings {
    fn read(
        data: &DataDir,
        places: &Places,
        database: Option<&str>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let loaded = places.read::<Config>()?;
        let config = loaded.settings;
        let found = Database::find(&config.database.url, database, data.database_path());
        let found = match database {
            None => found.map_err(|error| loaded.sources.blame(error))?,
            Some(_) => found.map_err(|error| format!("--database: {error}"))?,
        };
        Ok(Self { database: found, config })
    }

    /// Where messages are sealed, if they are.
    fn log_folder(&self, data: &DataDir) -> Option<PathBuf> {
        let folder = &self.config.log.folder;
        match folder.as_os_str().is_empty() {
            false => Some(folder.clone()),
            true if self.database.is_shared() => None,
            true => Some(data.log_folder_path()),
        }
    }
}

fn init(
    data: &DataDir,
    pairing: &std::path::Path,
    addresses: &[OriginAddress],
    issuer_address: Option<&OriginAddress>,
) -> CliResult {
    read_pairing(pairing)?;
    let config = with_addresses(addresses, issuer_address);
    toml::from_str::<Config>(&config)?.validate()?;
    data.create()?;
    create(&data.config_path(), config.as_bytes())?;
    data.put_pairing(&data.replacement(pairing, None, false)?)?;
    data.log_key(data.pairing()?.origin_name())?;
    let files = [data.config_path(), data.pairing_path(), data.log_key_path()];
    let files = files.map(|path| path.display().to_string()).join(", ");
    print(format_args!("wrote {files}"))?;
    if addresses.is_empty() || issuer_address.is_none() {
        print(format_args!(
            "before others can use it, set `addresses` and `issuer_address` in {}: clients refuse \
             addresses that the relay has not signed",
            data.config_path().display()
        ))?;
    }
    Ok(())
}

/// The example, with these addresses.
fn with_addresses(addresses: &[OriginAddress], issuer: Option<&OriginAddress>) -> String {
    let quoted: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    let issuer = issuer.map_or("", OriginAddress::as_str);
    EXAMPLE
        .replacen("\naddresses = []", &format!("\naddresses = [{}]", quoted.join(", ")), 1)
        .replacen("\nissuer_address = \"\"", &format!("\nissuer_address = \"{issuer}\""), 1)
}
