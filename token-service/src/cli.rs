//! The commands of `tocyn-issuer`.

mod db;

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use serde_json::json;
use tocyn_protocol::directory::TokenKey;
use tocyn_protocol::pairing::Pairing;
use tocyn_service::config::{ConfigCommand, Places};
use tocyn_service::database::Database;
use tocyn_service::folder::create;
use tocyn_service::listen::{Address, Addresses, Listeners};
use tocyn_service::program::{LogFormat, VERSION};
use tocyn_service::serve::stop_signal;

use crate::config::Config;
use crate::data_dir::{DataDir, pairing_text};
use crate::store::Store;
use crate::voucher::VoucherCode;
use crate::{Clock, run, system_clock};

/// The smallest batch that our client asks for.
const SMALLEST_BATCH: u64 = 16;

/// The settings at their defaults, with what they mean.
const EXAMPLE: &str = include_str!("../config.example.toml");

type CliResult = Result<(), Box<dyn std::error::Error>>;

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
        /// Name of the relay that takes the tokens.
        #[arg(long)]
        relay_name: String,
        /// How long a key is used; a token lives one to two epochs.
        #[arg(long, default_value = "7d", value_parser = humantime::parse_duration)]
        epoch: Duration,
    },
    /// Answer token requests until SIGTERM.
    Serve {
        /// Listen on ADDR:PORT (port 0 picks a free one) or unix:PATH instead of what is set.
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<Address>,
    },
    /// Make, list and revoke vouchers.
    #[command(subcommand)]
    Voucher(VoucherCommand),
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
}

#[derive(Subcommand)]
enum VoucherCommand {
    /// Make vouchers and print their codes, one a line. They are not shown again.
    Create {
        /// Tokens on each voucher.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
        tokens: u64,
        /// How many vouchers.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        count: u32,
        /// How long they can be used.
        #[arg(long, default_value = "30d", value_parser = humantime::parse_duration)]
        expires: Duration,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List vouchers with what is left on them. Codes are not kept, so they are not shown.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a voucher unusable, for good.
    Revoke {
        /// Its id, as `list` shows it, or its code; `-` reads it from standard input.
        voucher: String,
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
    /// Replace the secret: every token that was handed out becomes worthless. Do this after a
    /// leak, and after a restore from a backup.
    Renew,
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
        let places = Places::new("issuer", self.config, data.path());
        let settings = || Settings::read(&data, &places, self.database.as_deref());
        let runtime = tokio::runtime::Runtime::new()?;
        match self.command {
            Command::Init { issuer_name, relay_name, epoch } => {
                init(&data, &issuer_name, &relay_name, epoch, clock())
            }
            Command::Serve { listen } => runtime.block_on(serve(&data, listen, settings()?, clock)),
            Command::Voucher(command) => runtime.block_on(voucher(settings()?, command, clock())),
            Command::Pairing(PairingCommand::Show { json }) => show_pairing(&data, json, clock()),
            Command::Pairing(PairingCommand::Renew) => renew(&data, &clock),
            Command::Key(KeyCommand::List { json }) => list_keys(&data, json, clock()),
            Command::Config(command) => command.run::<Config>(&places, EXAMPLE),
            Command::Db(command) => runtime.block_on(command.run(&data, settings()?, clock())),
        }
    }
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
        let config: Config = places.read()?.settings;
        let url = config.database.url.read().map_err(|error| format!("database.url: {error}"))?;
        let database = Database::parse(database.unwrap_or(&url), data.database_path())?;
        Ok(Self { database, config })
    }
}

fn init(
    data: &DataDir,
    issuer_name: &str,
    relay_name: &str,
    epoch: Duration,
    now: u64,
) -> CliResult {
    let pairing = new_pairing(issuer_name, relay_name, now, epoch.as_secs())?;
    data.create()?;
    create(&data.pairing_path(), pairing_text(&pairing).as_bytes())?;
    create(&data.config_path(), EXAMPLE.as_bytes())?;
    println!("wrote {} and {}", data.config_path().display(), data.pairing_path().display());
    println!("now copy the pairing file to the relay: tocyn-relay --data DIR init --pairing FILE");
    Ok(())
}

fn new_pairing(
    issuer_name: &str,
    relay_name: &str,
    genesis: u64,
    epoch_seconds: u64,
) -> Result<Pairing, Box<dyn std::error::Error>> {
    let rng = &mut UnwrapErr(SysRng);
    Ok(Pairing::generate(issuer_name, relay_name, genesis, epoch_seconds, rng)?)
}

async fn serve(
    data: &DataDir,
    listen: Option<Address>,
    settings: Settings,
    clock: Clock,
) -> CliResult {
    let Settings { mut config, database } = settings;
    let pairing = data.pairing()?;
    // Several issuers may share a folder if they share a server.
    let _lock = if database.is_shared() { data.lock_shared()? } else { data.lock()? };
    if let Some(address) = listen {
        config.listen = Addresses(vec![address]);
    }
    if database.is_shared() {
        Store::leave_file(&data.database_path()).await?;
    }
    let store = Store::open(&database).await?;
    store.bind(&pairing).await?;
    let shutdown = stop_signal()?;
    let shared = database.is_shared();
    let listeners =
        Listeners::open(&config.listen, &config.admin.listen, data.path(), shared).await?;
    listeners.announce()?;
    run(&config, pairing, store, listeners, clock, shutdown).await;
    Ok(())
}

async fn voucher(settings: Settings, command: VoucherCommand, now: u64) -> CliResult {
    let store = Store::open(&settings.database).await?;
    match command {
        VoucherCommand::Create { tokens, count, expires, json } => {
            if tokens % SMALLEST_BATCH != 0 {
                eprintln!(
                    "note: tocyn asks for {SMALLEST_BATCH} tokens at a time; it cannot draw the last {} of {tokens}",
                    tokens % SMALLEST_BATCH
                );
            }
            if expires.as_secs() == 0 {
                return Err("--expires must be at least 1s".into());
            }
            let codes: Vec<VoucherCode> =
                (0..count).map(|_| VoucherCode::random(&mut UnwrapErr(SysRng))).collect();
            let hashes: Vec<[u8; 32]> = codes.iter().map(VoucherCode::hash).collect();
            let expires_at = now.saturating_add(expires.as_secs()).min(i64::MAX as u64);
            store.create_vouchers(&hashes, tokens, expires_at).await?;
            for voucher in &codes {
                let code = voucher.text();
                match json {
                    true => println!(
                        "{}",
                        json!({
                            "id": hex::encode(&voucher.hash()[..4]),
                            "code": *code,
                            "tokens": tokens,
                            "expires_at": expires_at,
                        })
                    ),
                    false => println!("{}", *code),
                }
            }
        }
        VoucherCommand::List { json } => {
            let rows = store.list_vouchers().await?;
            if json {
                println!("{}", serde_json::to_string(&rows)?);
            } else {
                println!(
                    "{:<8}  {:>10}  {:>10}  {:<20}  state",
                    "id", "granted", "left", "expires"
                );
                for row in rows {
                    let state = match row.revoked_at {
                        Some(_) => "revoked",
                        None if row.expires_at <= now => "expired",
                        None if row.balance == 0 => "used up",
                        None => "usable",
                    };
                    println!(
                        "{:<8}  {:>10}  {:>10}  {:<20}  {state}",
                        row.id,
                        row.granted,
                        row.balance,
                        time_text(row.expires_at)
                    );
                }
            }
        }
        VoucherCommand::Revoke { voucher } => {
            let voucher = match voucher.as_str() {
                "-" => std::io::read_to_string(std::io::stdin())?,
                _ => voucher,
            };
            let mut id = [0; 4];
            let hash_prefix = match hex::decode_to_slice(voucher.trim(), &mut id) {
                Ok(()) => id.to_vec(),
                Err(_) => VoucherCode::parse(&voucher)?.hash().to_vec(),
            };
            if store.revoke_voucher(&hash_prefix, now).await? == 0 {
                return Err(
                    "this issuer has no such voucher; `voucher list` shows their ids".into()
                );
            }
            println!("revoked {}", hex::encode(&hash_prefix[..4]));
        }
    }
    store.close().await;
    Ok(())
}

fn time_text(unix_seconds: u64) -> String {
    let time = std::time::UNIX_EPOCH.checked_add(Duration::from_secs(unix_seconds));
    // Years beyond 9999 have no text form.
    match time.filter(|_| unix_seconds < 253_402_300_800) {
        Some(time) => humantime::format_rfc3339_seconds(time).to_string(),
        None => "never".to_owned(),
    }
}

fn show_pairing(data: &DataDir, json: bool, now: u64) -> CliResult {
    let pairing = data.pairing()?;
    let epoch = pairing.epoch_at(now)?;
    if json {
        println!(
            "{}",
            json!({
                "issuer_name": pairing.issuer_name(),
                "relay_name": pairing.relay_name(),
                "genesis": pairing.genesis(),
                "epoch_seconds": pairing.epoch_seconds(),
                "epoch": epoch,
            })
        );
        return Ok(());
    }
    println!("issuer   {}", pairing.issuer_name());
    println!("relay    {}", pairing.relay_name());
    println!("genesis  {}", time_text(pairing.genesis()));
    let length = humantime::format_duration(Duration::from_secs(pairing.epoch_seconds()));
    println!("epoch    {epoch}, of {length}, until {}", time_text(pairing.epoch_end(epoch)));
    println!("secret   not shown; it is in {}", data.pairing_path().display());
    Ok(())
}

fn renew(data: &DataDir, clock: &Clock) -> CliResult {
    let _lock = data.lock()?;
    let old = data.pairing()?;
    // Clients tell the epochs of two pairings apart by their start.
    if clock() == old.genesis() {
        std::thread::sleep(Duration::from_secs(1));
    }
    let now = clock();
    let fresh = new_pairing(old.issuer_name(), old.relay_name(), now, old.epoch_seconds())?;
    let kept = data.replace_pairing(&fresh, now)?;
    println!("wrote a new {}; the old one is {}", data.pairing_path().display(), kept.display());
    println!(
        "copy it to every other issuer's data folder, and to the relay's machine for `tocyn-relay pairing install FILE`; then start all again. Tokens handed out so far are void"
    );
    Ok(())
}

fn list_keys(data: &DataDir, json: bool, now: u64) -> CliResult {
    let pairing = data.pairing()?;
    let current = pairing.epoch_at(now)?;
    let keys = [current, current + 1].map(|epoch| TokenKey::for_epoch(&pairing, epoch));
    if json {
        println!("{}", serde_json::to_string(&keys)?);
        return Ok(());
    }
    for key in keys {
        let (from, to) = (time_text(key.not_before), time_text(key.not_after));
        println!("epoch {}  {}  from {from} to {to}", key.epoch, key.token_key);
    }
    Ok(())
}
