//! The commands of `tocyn-issuer`.

mod backup;
mod db;
mod doctor;
mod ledger;
mod own;
mod pairing;
mod serve;
mod voucher;

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_protocol::pairing::Pairing;
use tocyn_service::config::{ConfigCommand, Places, Sources};
use tocyn_service::database::Database;
use tocyn_service::folder::{create, pairing_text};
use tocyn_service::listen::Address;
use tocyn_service::output::print;
use tocyn_service::program::{LogFormat, VERSION};
use tocyn_service::time_text;

use crate::config::Config;
use crate::data_dir::DataDir;
use crate::{Clock, system_clock};

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
                runtime.block_on(serve::serve(&data, listen, open, settings()?, clock))
            }
            Command::Voucher(command) => runtime.block_on(command.run(&data, settings()?, clock())),
            Command::Ledger(command) => runtime.block_on(command.run(&data, settings()?, clock())),
            Command::Pairing(PairingCommand::Show { json }) => pairing::show(&data, json, clock()),
            Command::Pairing(PairingCommand::Renew { planned: false }) => {
                runtime.block_on(pairing::renew(&data, &settings()?.database, &clock))
            }
            Command::Pairing(PairingCommand::Renew { planned: true }) => {
                pairing::plan_renewal(&data, clock())
            }
            Command::Key(KeyCommand::List { json }) => pairing::list_keys(&data, json, clock()),
            Command::Config(command) => command.run(&places, EXAMPLE, |config: &Config| {
                serve::credentials(&data, config)?;
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
