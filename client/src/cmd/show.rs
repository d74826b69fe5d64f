//! `tocyn show`.

use std::collections::HashSet;
use std::io::Write;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tocyn_client::group::message::{Author, Id};
use tocyn_client::group::order::{InTree, in_order};
use tocyn_client::printable::Printable;
use tocyn_client::read::{Range, Reader};
use tocyn_client::relay::RelayClient;
use tocyn_client::sync::Options;
use tocyn_client::transport::{ServiceUrl, Transport};
use tocyn_client::wallet::StoredMessage;

use super::group::find;
use super::sync::sync_log;
use crate::cli::{CliResult, Globals};
use crate::output::{stdout, tell};

/// How often a mirror is asked for what is new.
const POLL: Duration = Duration::from_secs(10);
/// The wait before the relay is asked again after a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// Show what was said in a group, each message after those that it answers to.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The group.
    #[arg(value_name = "GROUP")]
    group: String,
    /// Read what is new, and go on as more comes.
    #[arg(long)]
    follow: bool,
    /// With --follow: read from a copy of the log instead of from the relay.
    #[arg(long, value_name = "URL", requires = "follow")]
    mirror: Option<ServiceUrl>,
}

struct Shown(StoredMessage);

impl InTree for Shown {
    fn id(&self) -> Id {
        self.0.id
    }
    fn time(&self) -> u64 {
        self.0.time
    }
    fn parents(&self) -> &[Id] {
        &self.0.parents
    }
}

pub(crate) async fn run(globals: &Globals, args: Args) -> CliResult {
    let mut shown = HashSet::new();
    let mut last_size = None;
    loop {
        // Others may use the wallet while this waits.
        let wallet = globals.wallet().await?;
        let group = find(&wallet, &args.group).await?;
        let mut size = 0;
        let mut wait = if args.mirror.is_some() { POLL } else { Duration::ZERO };
        if args.follow {
            let groups = wallet.groups().await?;
            let key = group.log_key();
            let transport = globals.transport_of(&group)?;
            let options = Options::default();
            match sync_log(&transport, &wallet, &groups, key, &args.mirror, options).await {
                Ok(synced) => {
                    size = synced.size;
                    // It said that there was more.
                    if last_size.replace(size) == Some(size) {
                        wait = wait.max(AGAIN);
                    }
                    synced.faults.iter().for_each(tell);
                }
                Err(error) => {
                    tell(error);
                    wait = AGAIN;
                }
            }
        }
        let messages = wallet.messages(&group).await?;
        let own = group.author.author();
        let relays = wallet.relays_of(&group).await?;
        wallet.close().await;
        let mut out = stdout();
        for Shown(message) in in_order(messages.into_iter().map(Shown).collect()) {
            let is_there = message.seq.is_some() || !args.follow;
            if is_there && shown.insert(message.id) {
                print(globals, &mut out, &message, own)?;
            }
        }
        out.flush()?;
        drop(out);
        match args.follow {
            false => return Ok(()),
            true if wait > Duration::ZERO => tokio::time::sleep(wait).await,
            true => something_new(&globals.transport_of(&group)?, &relays, size).await,
        }
    }
}

/// Waits until the relay has more messages, or does not answer.
async fn something_new(transport: &Transport, relays: &[ServiceUrl], size: u64) {
    for url in relays {
        let relay = RelayClient::new(transport, url.clone());
        let Ok(info) = relay.info().await else { continue };
        let range = Range { after: Some(size), limit: Some(1), follow: true };
        if let Ok(Some(_)) = Reader::new(&relay, &info, range).next().await {
            return;
        }
    }
    tokio::time::sleep(AGAIN).await;
}

fn print(
    globals: &Globals,
    out: &mut impl Write,
    message: &StoredMessage,
    own: Author,
) -> std::io::Result<()> {
    if globals.json() {
        return writeln!(out, "{}", as_json(message, own));
    }
    let time = Duration::from_secs(message.time.min(253_402_300_799));
    let time = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + time);
    let name = match message.name.as_str() {
        "" => String::new(),
        name => format!("{} ", Printable(name)),
    };
    let key = &message.author.to_string()[..8];
    let mark = match (message.seq, message.author == own) {
        (None, _) => " (not in the log yet)",
        (_, true) => " (you)",
        _ => "",
    };
    let late = if message.late > 0 { " (late)" } else { "" };
    writeln!(out, "{time} {name}[{key}]{mark}{late}")?;
    match std::str::from_utf8(&message.body) {
        // Each line begins with a tab, so that no text can pass for the next message.
        Ok(text) => text
            .trim_end_matches('\n')
            .split('\n')
            .try_for_each(|line| writeln!(out, "\t{}", Printable(line))),
        Err(_) => writeln!(out, "\t({} bytes that are no text; see --json)", message.body.len()),
    }
}

fn as_json(message: &StoredMessage, own: Author) -> serde_json::Value {
    let parents: Vec<String> = message.parents.iter().map(Id::to_string).collect();
    let mut value = json!({
        "id": message.id.to_string(), "author": message.author.to_string(), "name": message.name,
        "counter": message.counter, "time": message.time, "seq": message.seq,
        "late_seconds": message.late, "own": message.author == own, "parents": parents,
    });
    match std::str::from_utf8(&message.body) {
        Ok(text) => value["text"] = text.into(),
        Err(_) => value["data"] = STANDARD.encode(&message.body).into(),
    }
    value
}
