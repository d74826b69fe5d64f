//! The services that a benchmark measures: running ones, or a pair of its own.

use std::path::PathBuf;

use clap::CommandFactory;
use clap::error::ErrorKind;
use tocyn_client::issuer::IssuerClient;
use tocyn_client::keys::EpochKey;
use tocyn_client::pins::meet;
use tocyn_client::relay::RelayClient;
use tocyn_client::request::{Agreed, agree, current_key};
use tocyn_client::session::Session;
use tocyn_client::transport::{ServiceUrl, Transport};
use tocyn_client::wallet::Wallet;
use zeroize::Zeroizing;

#[cfg(feature = "postgres")]
use super::scratch::Scratch;
use super::spawn::{self, Pair};
use crate::cli::{Cli, CliResult, check_voucher, clock};

#[derive(clap::Args)]
pub(crate) struct ServiceArgs {
    /// Start an issuer and a relay of its own, with defaults, on this machine.
    #[arg(long, conflicts_with_all = ["issuer", "relay", "voucher"])]
    spawn: bool,
    /// A running issuer.
    #[arg(long, value_name = "URL")]
    issuer: Option<ServiceUrl>,
    /// A running relay.
    #[arg(long, value_name = "URL")]
    relay: Option<ServiceUrl>,
    /// A voucher that pays for all tokens; `-` reads it from standard input.
    #[arg(long, value_name = "CODE")]
    voucher: Option<String>,
    /// How many relays to start.
    #[cfg(feature = "postgres")]
    #[arg(long, value_name = "N", default_value_t = 1, requires = "database")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=16))]
    relays: u8,
    /// Let the relays keep their log in PostgreSQL, in a database that is made for it on the
    /// server which this names, and dropped: postgres://USER@HOST/DATABASE.
    #[cfg(feature = "postgres")]
    #[arg(long, value_name = "URL", requires = "spawn")]
    database: Option<String>,
    /// Folder for databases; what it lies on counts.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    pub(crate) folder: PathBuf,
}

/// What a benchmark asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// A relay, and an issuer that sells tokens for it.
    Both,
    /// An issuer that sells tokens.
    Issuer,
    /// A relay.
    Relay,
}

/// Services to measure.
pub(crate) struct Services {
    pub(crate) own: Option<Pair>,
    issuer: Option<ServiceUrl>,
    relay: Option<ServiceUrl>,
    voucher: Zeroizing<String>,
}

impl ServiceArgs {
    /// Wrong usage ends here, before anything is measured.
    pub(crate) fn check(&self, needs: Needs) {
        let missing = match needs {
            _ if self.spawn => false,
            Needs::Both => self.issuer.is_none() || self.relay.is_none() || self.voucher.is_none(),
            Needs::Issuer => self.issuer.is_none() || self.voucher.is_none(),
            Needs::Relay => self.relay.is_none(),
        };
        if missing {
            let names = match needs {
                Needs::Both => "--issuer URL, --relay URL and --voucher CODE",
                Needs::Issuer => "--issuer URL and --voucher CODE",
                Needs::Relay => "--relay URL",
            };
            let text = format!("give --spawn, or {names} of running services");
            Cli::command().error(ErrorKind::MissingRequiredArgument, text).exit()
        }
    }

    /// Starts them, or takes note of where they are.
    pub(crate) async fn open(&self) -> CliResult<Services> {
        if self.spawn {
            #[cfg(feature = "postgres")]
            let scratch = match &self.database {
                Some(url) => Some(Scratch::create(url).await?),
                None => None,
            };
            #[cfg(not(feature = "postgres"))]
            let scratch = None;
            let pair = spawn::pair(&self.folder, self.relays(), scratch)?;
            return Ok(Services {
                issuer: Some(pair.issuer_url.parse()?),
                relay: Some(pair.relay_url(0).parse()?),
                voucher: Zeroizing::new(pair.voucher.clone()),
                own: Some(pair),
            });
        }
        let voucher = Zeroizing::new(match self.voucher.as_deref() {
            Some("-") => std::io::read_to_string(std::io::stdin())?,
            code => code.unwrap_or_default().to_owned(),
        });
        let (issuer, relay) = (self.issuer.clone(), self.relay.clone());
        let voucher = Zeroizing::new(voucher.trim().to_owned());
        if self.voucher.is_some() {
            check_voucher(&voucher)?;
        }
        Ok(Services { own: None, issuer, relay, voucher })
    }

    pub(crate) fn is_spawn(&self) -> bool {
        self.spawn
    }

    /// How many are started.
    pub(crate) fn relays(&self) -> usize {
        #[cfg(feature = "postgres")]
        return self.relays.into();
        #[cfg(not(feature = "postgres"))]
        return 1;
    }

    /// Where relays that are started keep their log.
    pub(crate) fn database_name(&self) -> &'static str {
        #[cfg(feature = "postgres")]
        if self.database.is_some() {
            return "PostgreSQL";
        }
        "SQLite"
    }

    /// For the report.
    pub(crate) fn fact(&self) -> (&'static str, String) {
        let text = match self.spawn {
            true if self.relays() > 1 => {
                let relays = self.relays();
                format!(
                    "an issuer and {relays} relays of its own on this machine, with default settings"
                )
            }
            true => "a pair of its own on this machine, with default settings".to_owned(),
            false => "running ones, with settings of their own".to_owned(),
        };
        ("services", text)
    }

    /// For the report: when a post or a voucher's charge is answered.
    pub(crate) fn durability(&self) -> (&'static str, String) {
        let text = match self.spawn {
            true if self.database_name() == "PostgreSQL" => {
                "answered after PostgreSQL's commit (fsync and synchronous_commit on)"
            }
            true => "answered after SQLite's commit (WAL, synchronous=FULL)",
            false => "as the services are configured",
        };
        ("durability", text.to_owned())
    }
}

impl Services {
    pub(crate) fn voucher(&self) -> &str {
        &self.voucher
    }

    pub(crate) fn issuer(&self) -> CliResult<IssuerClient> {
        let url = self.issuer.clone().ok_or("no issuer")?;
        Ok(IssuerClient::new(&Transport::default(), url))
    }

    pub(crate) fn relay(&self) -> CliResult<RelayClient> {
        let url = self.relay.clone().ok_or("no relay")?;
        Ok(RelayClient::new(&Transport::default(), url))
    }

    /// What both show, to a wallet that is dropped, and the key to buy under.
    pub(crate) async fn agree(&self) -> CliResult<(Agreed, EpochKey)> {
        let dir = tempfile::tempdir()?;
        let wallet = Wallet::open(dir.path()).await?;
        let session = Session { wallet: &wallet, clock: &clock, tell: &|_| {} };
        let met = meet(&session, &self.relay()?, None).await?;
        let agreed = agree(&session, &self.issuer()?, met).await?;
        let key = current_key(&session, &agreed).await?.clone();
        wallet.close().await;
        Ok((agreed, key))
    }

    /// The database made for it, if it is one on a server.
    pub(crate) fn database(&self) -> Option<&str> {
        self.own.as_ref()?.database_url()
    }

    /// `ADDR:PORT` of every relay.
    pub(crate) fn relay_addresses(&self) -> CliResult<Vec<String>> {
        match &self.own {
            Some(pair) => pair.relay_urls().map(|url| address(&url.parse()?)).collect(),
            None => Ok(vec![self.relay_address()?]),
        }
    }

    /// `ADDR:PORT` of the relay.
    pub(crate) fn relay_address(&self) -> CliResult<String> {
        address(self.relay()?.url())
    }

    /// `ADDR:PORT` of the issuer.
    pub(crate) fn issuer_address(&self) -> CliResult<String> {
        address(self.issuer()?.url())
    }
}

/// The load generator speaks to a service itself, without TLS and without paths before its own.
fn address(url: &ServiceUrl) -> CliResult<String> {
    if url.is_onion() {
        return Err(format!("{url} is an onion service; benchmarks go through no proxy").into());
    }
    let text = url.to_string();
    let address = text.strip_prefix("http://").filter(|address| !address.contains('/'));
    let address = address.ok_or("benchmarks reach services at http://HOST:PORT only")?;
    // Without a port it is HTTP's.
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if has_port { address.to_owned() } else { format!("{address}:80") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_port() {
        let of = |url: &str| address(&url.parse().unwrap()).ok();
        assert_eq!(of("http://127.0.0.1:7802").as_deref(), Some("127.0.0.1:7802"));
        assert_eq!(of("http://relay.example").as_deref(), Some("relay.example:80"));
        assert_eq!(of("http://[::1]:1").as_deref(), Some("[::1]:1"));
        assert_eq!(of("https://relay.example"), None);
        assert_eq!(of("http://relay.example/under/"), None);
    }
}
