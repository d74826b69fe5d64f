//! `tocyn sync`.

use serde_json::json;
use tocyn_client::log::LogError;
use tocyn_client::log::files::LogFiles;
use tocyn_client::relay::RelayClient;
use tocyn_client::sync::{Options, Source, SyncError, Synced, sync};
use tocyn_client::transport::{ServiceUrl, Transport};
use tocyn_client::wallet::{Group, Wallet};
use tocyn_protocol::log::note::VerifierKey;

use super::check;
use crate::cli::{CliResult, Globals, now};
use crate::output::{print, tell};

/// Read what is new for all groups, check it, and say what does not fit.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Read everything again that is kept, so that the relay cannot tell by what is asked for that
    /// it is the same reader as before.
    #[arg(long)]
    resync: bool,
    /// Go on although the relay says that messages are gone which it should still keep.
    #[arg(long)]
    accept_gone: bool,
    /// Read from a copy of the log, as `tocyn mirror` makes them, instead of from the relay.
    #[arg(long, value_name = "URL")]
    mirror: Option<ServiceUrl>,
}

pub(crate) async fn run(globals: &Globals, args: Args) -> CliResult {
    let wallet = globals.wallet().await?;
    let groups = wallet.groups().await?;
    if groups.is_empty() {
        return Err("you are in no group; see `tocyn group create` and `tocyn group join`".into());
    }
    let mut keys: Vec<&VerifierKey> = Vec::new();
    for group in &groups {
        if !keys.contains(&group.log_key()) {
            keys.push(group.log_key());
        }
    }
    if keys.len() > 1 && args.mirror.is_some() {
        return Err("your groups are at several relays, and a mirror has one relay's log".into());
    }
    let mut failed = false;
    for key in keys {
        let options = Options { resync: args.resync, accept_gone: args.accept_gone };
        let group = groups.iter().find(|group| group.log_key() == key);
        let transport = globals.transport_of(group.expect("it is a group's key"))?;
        let synced = sync_log(&transport, &wallet, &groups, key, &args.mirror, options).await;
        failed |= report(globals, key, &synced)?;
    }
    let troubled = check::report(globals, &wallet, None).await?;
    wallet.close().await;
    match failed || troubled {
        true => Err("not all is well; see above".into()),
        false => Ok(()),
    }
}

/// Reads from the mirror, or from the first of the relay's addresses that answers.
pub(crate) async fn sync_log(
    transport: &Transport,
    wallet: &Wallet,
    groups: &[Group],
    key: &VerifierKey,
    mirror: &Option<ServiceUrl>,
    options: Options,
) -> Result<Synced, SyncError> {
    if let Some(url) = mirror {
        let files = LogFiles::of_mirror(transport, url.clone())?;
        wallet.add_mirror(key, &url.to_string()).await?;
        return sync(wallet, &Source::Mirror(&files), key, options, now()).await;
    }
    let mut failure = None;
    let mut urls = Vec::new();
    for group in groups.iter().filter(|group| group.log_key() == key) {
        for url in wallet.relays_of(group).await? {
            if !urls.contains(&url) {
                urls.push(url);
            }
        }
    }
    for url in &urls {
        let relay = RelayClient::new(transport, url.clone());
        match sync(wallet, &Source::Relay(&relay), key, options, now()).await {
            Err(error) if is_better_elsewhere(&error) => drop(failure.get_or_insert(error)),
            synced => return synced,
        }
    }
    Err(failure.expect("a group has an address"))
}

/// Whether another address of the same relay may do better.
fn is_better_elsewhere(error: &SyncError) -> bool {
    let log = |error: &LogError| {
        matches!(error, LogError::Http(_) | LogError::Tiles(_) | LogError::Checkpoint { .. })
    };
    match error {
        SyncError::Log(error) => log(error),
        SyncError::Read(_) | SyncError::OtherLog { .. } | SyncError::Withheld { .. } => true,
        _ => false,
    }
}

/// Says what came; gives whether something is wrong.
fn report(
    globals: &Globals,
    key: &VerifierKey,
    synced: &Result<Synced, SyncError>,
) -> CliResult<bool> {
    match synced {
        Ok(synced) => {
            if globals.json() {
                let Synced { size, cells, messages, .. } = synced;
                let row = json!({
                    "relay": key.name(), "size": size, "cells": cells, "messages": messages,
                });
                print(row)?;
            } else {
                print(format_args!(
                    "{}: {} new messages in {} cells; the log has {} messages",
                    key.name(),
                    synced.messages,
                    synced.cells,
                    synced.size
                ))?;
            }
            let faults = synced.faults.iter();
            faults.for_each(|fault| tell(format_args!("{}: {fault}", key.name())));
            Ok(!synced.faults.is_empty())
        }
        Err(error) => {
            tell(format_args!("{}: {error}", key.name()));
            Ok(true)
        }
    }
}
