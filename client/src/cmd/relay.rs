//! `tocyn relay`.

use std::io::Write;

use serde_json::json;
use tocyn_client::pins::meet;
use tocyn_client::printable::Printable;
use tocyn_client::renewal::Renewal;
use tocyn_client::transport::ServiceUrl;
use tocyn_client::wallet::{Pin, Wallet};

use crate::cli::{CliResult, Globals, now, session};
use crate::output::{print, stdout};

/// Relays that this wallet has met. It keeps what each has stated of its keys and addresses, and
/// refuses what contradicts that.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Show what is pinned of each relay, and what is new.
    List,
    /// Look at a relay's statement of keys now, without buying or posting.
    Look {
        /// The relay.
        #[arg(value_name = "URL")]
        relay: ServiceUrl,
    },
    /// Accept a relay's newest statement of keys, after its operator has confirmed it.
    Accept {
        /// The relay's name, or an address of it.
        #[arg(value_name = "RELAY")]
        relay: String,
    },
    /// Forget what is pinned of a relay, and drop the tokens that were bought for it. Evidence stays.
    Forget {
        /// The relay's name, or an address of it.
        #[arg(value_name = "RELAY")]
        relay: String,
    },
}

pub(crate) async fn run(globals: &Globals, command: Command) -> CliResult {
    let wallet = match command {
        Command::Look { .. } => globals.new_wallet().await?,
        _ => globals.wallet().await?,
    };
    match command {
        Command::List => list(globals, &wallet).await?,
        Command::Look { relay } => {
            let met = meet(&session(&wallet), &globals.relay(&relay)?, None).await?;
            print(format_args!(
                "{}: statement of keys number {}, as pinned",
                met.pin.key.name(),
                met.pin.statement.serial
            ))?;
        }
        Command::Accept { relay } => accept(&wallet, &find(&wallet, &relay).await?).await?,
        Command::Forget { relay } => {
            let pin = find(&wallet, &relay).await?;
            let tokens = wallet.forget_origin(&pin.key).await?;
            print(format_args!("{} is forgotten, and {tokens} tokens for it", pin.key.name()))?;
        }
    }
    wallet.close().await;
    Ok(())
}

/// The pin of this name or address, or what to do.
async fn find(wallet: &Wallet, relay: &str) -> CliResult<Pin> {
    let url = relay.parse::<ServiceUrl>().map(|url| url.to_string());
    let at = match url {
        Ok(url) => wallet.origin_at(&url).await?,
        Err(_) => None,
    };
    let mut pins = wallet.pins().await?;
    pins.retain(|pin| pin.key.name() == relay || Some(pin.key.to_string()) == at);
    match (pins.pop(), pins.is_empty()) {
        (Some(pin), true) => Ok(pin),
        (Some(_), false) => Err(format!(
            "several relays are called {relay}; give an address of the one that is meant"
        )
        .into()),
        (None, _) => {
            Err(format!("this wallet has met no relay called {relay}; see `tocyn relay list`")
                .into())
        }
    }
}

async fn accept(wallet: &Wallet, pin: &Pin) -> CliResult {
    let name = pin.key.name();
    let Some(offer) = &pin.offer else {
        return Err(format!(
            "{name} has shown nothing that is not accepted; `tocyn relay look URL` asks it"
        )
        .into());
    };
    print(Renewal::of(pin, offer))?;
    let void = wallet.accept_offer(pin, now()).await?;
    let serial = offer.statement.serial;
    print(format_args!("statement of keys number {serial} of {name} is accepted"))?;
    if void > 0 {
        print(format_args!("{void} tokens from before it were void, and are gone"))?;
    }
    Ok(())
}

async fn list(globals: &Globals, wallet: &Wallet) -> CliResult {
    let pins = wallet.pins().await?;
    let mut out = stdout();
    for pin in &pins {
        let statement = &pin.statement;
        let addresses: Vec<&str> = statement.addresses.iter().map(|one| one.as_str()).collect();
        let issuer = statement.issuer_address.as_ref().map(|one| one.as_str());
        if globals.json() {
            let row = json!({
                "origin_key": pin.key, "serial": statement.serial,
                "hash": statement.commitment().hash.to_string(), "issuer": statement.issuer_name,
                "issuer_address": issuer, "addresses": addresses, "pinned_at": pin.pinned_at,
                "keys_end": statement.schedule.last_end(),
                "offered": pin.offer.as_ref().map(|offer| json!({
                    "serial": offer.statement.serial,
                    "hash": offer.statement.commitment().hash.to_string(),
                    "shown_at": offer.shown_at,
                    "note": offer.statement.note(),
                })),
            });
            writeln!(out, "{row}")?;
            continue;
        }
        let end = humantime::format_rfc3339_seconds(
            std::time::UNIX_EPOCH
                + std::time::Duration::from_secs(
                    statement.schedule.last_end().min(253_402_300_799),
                ),
        );
        writeln!(out, "{}", pin.key)?;
        writeln!(out, "  statement  number {}, with keys until {end}", statement.serial)?;
        writeln!(out, "  hash       {}", statement.commitment().hash)?;
        writeln!(out, "  addresses  {}", none_or(&addresses.join(", ")))?;
        writeln!(
            out,
            "  issuer     {} at {}",
            Printable(&statement.issuer_name),
            none_or(issuer.unwrap_or_default())
        )?;
        if let Some(offer) = &pin.offer {
            writeln!(out, "  new        {}", Renewal::of(pin, offer))?;
        }
    }
    if pins.is_empty() && !globals.json() {
        writeln!(out, "this wallet has met no relay; `tocyn request` does")?;
    }
    Ok(())
}

fn none_or(text: &str) -> &str {
    if text.is_empty() { "none but on this machine" } else { text }
}
