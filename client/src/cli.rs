//! The commands of `tocyn`.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};
use tocyn_client::output::tell;
use tocyn_client::relay::RelayClient;
use tocyn_client::session::{News, Session};
use tocyn_client::transport::{ServiceUrl, Transport};
use tocyn_client::wallet::proxy::{keep_proxy, kept_proxy};
use tocyn_client::wallet::{Group, Wallet};

use crate::cmd;

/// What a command comes to.
pub type CliResult<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Buys tokens, posts to a relay and reads it.
#[derive(Parser)]
#[command(name = "tocyn", version)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args)]
pub(crate) struct Globals {
    /// Folder of the wallet [default: tocyn in the user's data folder].
    #[arg(long, global = true, value_name = "DIR")]
    wallet: Option<PathBuf>,
    /// Reach issuer and relay through this SOCKS5 proxy, as Tor: socks5h://127.0.0.1:9050. It is kept
    /// with the wallet, and with groups that are made or joined: later commands go through it too.
    #[arg(long, global = true, value_name = "URL", env = "TOCYN_PROXY")]
    proxy: Option<Transport>,
    /// Go through no proxy this time.
    #[arg(long, global = true)]
    direct: bool,
    /// Print JSON.
    // `bench` has an option of the same name that takes a file; clap needs one type for both.
    #[arg(long, global = true, num_args = 0, default_missing_value = "-")]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Buy tokens with a voucher.
    Request(cmd::request::Args),
    /// Show how many tokens the wallet has.
    Balance,
    /// Make groups, join them, leave them.
    #[command(subcommand)]
    Group(cmd::group::Command),
    /// Say something to a group.
    Send(cmd::send::Args),
    /// Read what is new for your groups.
    Sync(cmd::sync::Args),
    /// Show what was said in a group.
    Show(cmd::show::Args),
    /// Say what is missing, and what relays did wrong.
    Check(cmd::check::Args),
    /// Check evidence against a relay.
    #[command(subcommand)]
    Evidence(cmd::evidence::Command),
    /// Copy a relay's log into a folder for a file server.
    Mirror(cmd::mirror::Args),
    /// Post a message that all can read; it costs one token.
    Post(cmd::post::Args),
    /// Read messages.
    Read(cmd::read::Args),
    /// Show what a relay says about itself.
    Info(cmd::info::Args),
    /// Measure.
    #[command(subcommand)]
    Bench(cmd::bench::Command),
    /// See what is pinned of relays, accept their renewals, or forget them.
    #[command(subcommand)]
    Relay(cmd::relay::Command),
}

impl Cli {
    /// Runs the command.
    pub fn run(self) -> CliResult {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let globals = &self.globals;
        runtime.block_on(async {
            match self.command {
                Command::Request(args) => cmd::request::run(globals, args).await,
                Command::Balance => cmd::balance::run(globals).await,
                Command::Group(command) => cmd::group::run(globals, command).await,
                Command::Send(args) => cmd::send::run(globals, args).await,
                Command::Sync(args) => cmd::sync::run(globals, args).await,
                Command::Show(args) => cmd::show::run(globals, args).await,
                Command::Check(args) => cmd::check::run(globals, args).await,
                Command::Evidence(command) => cmd::evidence::run(globals, command),
                Command::Mirror(args) => cmd::mirror::run(globals, args).await,
                Command::Post(args) => cmd::post::run(globals, args).await,
                Command::Read(args) => cmd::read::run(globals, args).await,
                Command::Info(args) => cmd::info::run(globals, args).await,
                Command::Bench(command) => cmd::bench::run(command).await,
                Command::Relay(command) => cmd::relay::run(globals, command).await,
            }
        })
    }
}

impl Globals {
    pub(crate) fn json(&self) -> bool {
        self.json.is_some()
    }

    /// How to reach what belongs to no group: as the command line says, else as the wallet has kept it.
    pub(crate) fn transport(&self) -> CliResult<Transport> {
        Ok(self.told_or_kept()?.unwrap_or_default())
    }

    /// How to reach a group's services: the same, else as the group was joined.
    pub(crate) fn transport_of(&self, group: &Group) -> CliResult<Transport> {
        Ok(self.told_or_kept()?.or_else(|| group.proxy.clone()).unwrap_or_default())
    }

    /// What was told is kept, by commands that need no wallet too.
    fn told_or_kept(&self) -> CliResult<Option<Transport>> {
        let dir = self.wallet_dir()?;
        match self.told() {
            None => Ok(kept_proxy(&dir)?),
            Some(told) => {
                if told.is_proxied() {
                    keep_proxy(&dir, &told)?;
                }
                Ok(Some(told))
            }
        }
    }

    fn told(&self) -> Option<Transport> {
        match self.direct {
            true => Some(Transport::default()),
            false => self.proxy.clone(),
        }
    }

    pub(crate) fn relay(&self, url: &ServiceUrl) -> CliResult<RelayClient> {
        Ok(self.relay_over(&self.transport()?, url))
    }

    /// With a warning if whoever is on the way can read along.
    pub(crate) fn relay_over(&self, transport: &Transport, url: &ServiceUrl) -> RelayClient {
        if url.is_readable_on_the_way() {
            tell(format_args!(
                "{url} is neither https nor an onion service: whoever is on the way can see and \
                 change what is sent"
            ));
        }
        RelayClient::new(transport, url.clone())
    }

    fn wallet_dir(&self) -> CliResult<PathBuf> {
        Ok(match &self.wallet {
            Some(dir) => dir.clone(),
            None => dirs::data_dir()
                .ok_or("there is no data folder for this user; give --wallet DIR")?
                .join("tocyn"),
        })
    }

    /// The wallet, which must be there: a typo in `--wallet` must not look like an empty one.
    pub(crate) async fn wallet(&self) -> CliResult<Wallet> {
        let dir = self.wallet_dir()?;
        if !Wallet::exists(&dir) {
            return Err(format!(
                "there is no wallet in {}; give --wallet the folder of one. `tocyn request`, \
                 `tocyn group create` and `tocyn group join` make a new one",
                dir.display()
            )
            .into());
        }
        Ok(Wallet::open(&dir).await?)
    }

    /// The wallet, made where there is none.
    pub(crate) async fn new_wallet(&self) -> CliResult<Wallet> {
        Ok(Wallet::open(&self.wallet_dir()?).await?)
    }
}

/// Time since the unix epoch by this machine's clock.
pub(crate) fn clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Unix seconds by this machine's clock.
pub(crate) fn now() -> u64 {
    clock().as_secs()
}

/// A session that tells the person at the terminal.
pub(crate) fn session(wallet: &Wallet) -> Session<'_> {
    Session { wallet, clock: &clock, tell: &|news: News| tell(news) }
}

/// Refuses what is no voucher before anyone is asked, and without repeating it.
pub(crate) fn check_voucher(code: &str) -> CliResult {
    match code.trim() {
        "" => Err("the voucher is empty: what was to give its code has given nothing".into()),
        code if code.to_ascii_lowercase().starts_with("tv1-") => Ok(()),
        _ => Err("this is no voucher: a code begins with tv1-".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn json_takes_a_file_in_benchmarks_only() {
        let json = |line: &str| Cli::try_parse_from(line.split(' ')).unwrap().globals.json;
        let stdout = Some(PathBuf::from("-"));
        assert_eq!(json("tocyn --json info http://relay"), stdout);
        assert_eq!(json("tocyn info --json http://relay"), stdout);
        assert_eq!(json("tocyn --json bench crypto"), stdout);
        assert_eq!(json("tocyn bench --json crypto"), stdout);
        assert_eq!(json("tocyn bench crypto --json"), stdout);
        assert_eq!(json("tocyn bench crypto --json --batch 16"), stdout);
        assert_eq!(json("tocyn bench crypto --json out.json"), Some("out.json".into()));
        assert_eq!(json("tocyn --json bench crypto --json out.json"), Some("out.json".into()));
        assert_eq!(json("tocyn bench crypto"), None);
    }
}
