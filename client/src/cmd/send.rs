//! `tocyn send`.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::json;
use tocyn_client::pins::{Met, meet};
use tocyn_client::relay::RelayClient;
use tocyn_client::send::{compose, queue, send_waiting};
use tocyn_client::session::Session;
use tocyn_client::trust::TrustError;
use tocyn_client::wallet::Group;

use super::group::find;
use crate::cli::{CliResult, Globals, now, session};
use crate::output::{print, print_done, tell};

/// The longest input, in bytes: more than fits in any message.
const MAX_INPUT_BYTES: u64 = 1 << 28;

/// Say something to a group. Long messages are split over several cells, each of which costs one
/// token; what it costs is shown before anything is sent.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The group.
    #[arg(value_name = "GROUP")]
    group: String,
    /// What to say; `-` or nothing reads standard input.
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    /// Say what is in this file.
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    file: Option<PathBuf>,
    /// Only show what it would cost.
    #[arg(long)]
    cost: bool,
    /// Say nothing new, only send what waits since an earlier run.
    #[arg(long, conflicts_with_all = ["text", "file", "cost"])]
    resume: bool,
}

pub(crate) async fn run(globals: &Globals, args: Args) -> CliResult {
    // Read before the wallet is opened: whoever types it does not keep others waiting.
    let body = match args.resume {
        true => None,
        false => Some(read_body(args.text, args.file.as_deref())?),
    };
    let wallet = globals.wallet().await?;
    let session = session(&wallet);
    let group = find(&wallet, &args.group).await?;
    let (relay, met) = relay_of(globals, &session, &group)
        .await
        .map_err(|error| format!("{error}. Nothing was sent or saved"))?;
    let waiting = wallet.waiting(&group).await?.len();
    let composed = match body {
        None => None,
        Some(body) => Some(compose(&session, &group, &met, body).await?),
    };
    let cells = composed.as_ref().map_or(0, |composed| composed.cells.len());
    let tokens = wallet.spendable(&met.pin.key, met.keys(), now()).await?;
    let begun = wallet.begun(&group).await?;
    if composed.is_some() {
        let before = match waiting {
            0 => String::new(),
            _ => format!(", after {waiting} that wait since an earlier run"),
        };
        tell(format_args!(
            "this message takes {cells} cells{before}; each costs a token, and the wallet has {tokens}"
        ));
    }
    if args.cost {
        if globals.json() {
            print(json!({ "cells": cells, "waiting": waiting, "tokens": tokens }))?;
        }
        wallet.close().await;
        return Ok(());
    }
    let need = cells + waiting;
    if need as u64 > tokens + begun {
        let renewal = met.renewal().map(|renewal| format!(". {renewal}")).unwrap_or_default();
        return Err(format!(
            "{need} tokens are needed and the wallet has {tokens}; nothing was sent or saved. Buy \
             some with `tocyn request --group {} --voucher CODE --count N`{renewal}",
            group.invite.name
        )
        .into());
    }
    if let Some(composed) = &composed {
        queue(&wallet, &group, composed).await?;
        if waiting > 0 {
            // Sent together, the relay would know the messages for one author's.
            return Err(format!(
                "the message is saved, and not sent yet: {waiting} cells of earlier messages wait, \
                 and go first. `tocyn send {} --resume` sends all of them, each message over a \
                 connection of its own",
                group.invite.name
            )
            .into());
        }
    }
    let sent = send_waiting(&session, &relay, &met, &group).await?;
    wallet.close().await;
    let text = match globals.json() {
        true => json!({ "cells": sent }).to_string(),
        false if sent == 0 => "nothing waits to be sent".to_owned(),
        false => format!("sent in {sent} cells"),
    };
    Ok(print_done(text, &format!("{sent} cells are sent"))?)
}

/// The group's relay at the first of its addresses that answers. What answers must show what is
/// pinned: another address would be another guess for a relay that marks its users.
pub(crate) async fn relay_of(
    globals: &Globals,
    session: &Session<'_>,
    group: &Group,
) -> CliResult<(RelayClient, Met)> {
    let transport = globals.transport_of(group)?;
    let mut failure = None;
    for url in &session.wallet.relays_of(group).await? {
        let relay = globals.relay_over(&transport, url);
        match meet(session, &relay, Some(group.expected())).await {
            Ok(met) => return Ok((relay, met)),
            Err(error @ TrustError::Http(_)) => drop(failure.get_or_insert(error)),
            Err(error) => return Err(error.into()),
        }
    }
    Err(failure.expect("a group has an address").into())
}

fn read_body(text: Option<String>, file: Option<&Path>) -> CliResult<Vec<u8>> {
    let mut body = Vec::new();
    match (text, file) {
        (Some(text), _) if text != "-" => body = text.into_bytes(),
        (_, Some(path)) if path != Path::new("-") => {
            std::fs::File::open(path)
                .and_then(|file| file.take(MAX_INPUT_BYTES).read_to_end(&mut body))
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        _ => {
            std::io::stdin().lock().take(MAX_INPUT_BYTES).read_to_end(&mut body)?;
        }
    }
    match body.is_empty() {
        true => Err("the message is empty; nothing was sent".into()),
        false => Ok(body),
    }
}
