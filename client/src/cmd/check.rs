//! `tocyn check`.

use tocyn_client::log::files::LogFiles;
use tocyn_client::log::{LogError, compare};
use tocyn_client::pins::meet;
use tocyn_client::printable::Printable;
use tocyn_client::transport::ServiceUrl;
use tocyn_client::wallet::{GroupHealth, Wallet};

use super::group::find;
use crate::cli::{CliResult, Globals, now, session};
use crate::output::{print, tell};

/// Say what is missing in your groups, and what relays did wrong. Compares with every copy of a log
/// that was read from before, and looks for the receipts of public posts in the log; `tocyn sync`
/// reads what is new in groups.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this group.
    #[arg(value_name = "GROUP")]
    group: Option<String>,
    /// Stop reporting what is reported now: it is known, or it was a member's lie. Evidence is kept.
    #[arg(long)]
    accept: bool,
    /// Compare with this copy of a log too, as `tocyn mirror` makes them.
    #[arg(long, value_name = "URL")]
    mirror: Vec<ServiceUrl>,
    /// Look for receipts in the log of this relay: all its hashes are fetched, 32 bytes a message, so
    /// that it cannot tell which message is looked for.
    #[arg(long, value_name = "URL")]
    relay: Vec<ServiceUrl>,
    /// Ask nobody.
    #[arg(long, conflicts_with_all = ["mirror", "relay"])]
    offline: bool,
}

pub(crate) async fn run(globals: &Globals, args: Args) -> CliResult {
    let wallet = globals.wallet().await?;
    let mut found = Vec::new();
    for url in &args.relay {
        let relay = globals.relay(url)?;
        let pin = meet(&session(&wallet), &relay, None).await?.pin;
        found.extend(compare(&wallet, &relay.log_files()?, &pin.key, now()).await?);
    }
    if !args.offline {
        found.extend(ask_mirrors(globals, &wallet, &args.mirror).await?);
    }
    found.iter().for_each(tell);
    let mut troubled = report(globals, &wallet, args.group.as_deref()).await?;
    troubled |= !found.is_empty();
    if args.accept {
        let groups = match &args.group {
            Some(name) => vec![find(&wallet, name).await?],
            None => wallet.groups().await?,
        };
        for group in &groups {
            wallet.accept(group).await?;
            print(format_args!("{}: accepted", Printable(&group.invite.name)))?;
        }
        troubled = false;
    }
    wallet.close().await;
    match troubled {
        true => Err("not all is well; see above".into()),
        false => Ok(()),
    }
}

/// Compares with the copies that were read from, and with these. One that does not answer, or lies by
/// itself, is named and proves nothing.
async fn ask_mirrors(
    globals: &Globals,
    wallet: &Wallet,
    more: &[ServiceUrl],
) -> CliResult<Vec<LogError>> {
    let keys = wallet.checked_logs().await?;
    let mut urls: Vec<ServiceUrl> = more.to_vec();
    for key in &keys {
        for url in wallet.mirrors(key).await? {
            urls.push(url.parse()?);
        }
    }
    urls.dedup();
    let mut found = Vec::new();
    for url in urls {
        let files = LogFiles::of_mirror(&globals.transport()?, url.clone())?;
        let compared = match files.info().await {
            Ok(info) if !keys.contains(&info.log_key) => {
                tell(format_args!(
                    "the copy at {url} is of a relay that this wallet does not know"
                ));
                continue;
            }
            Ok(info) => compare(wallet, &files, &info.log_key, now()).await,
            Err(error) => Err(error.into()),
        };
        match compared {
            Ok(faults) => found.extend(faults),
            Err(error) => tell(format_args!("the copy at {url} says nothing of use: {error}")),
        }
    }
    Ok(found)
}

/// Says what is missing and what is wrong; returns whether anything is.
pub(crate) async fn report(
    globals: &Globals,
    wallet: &Wallet,
    group: Option<&str>,
) -> CliResult<bool> {
    let groups = match group {
        Some(name) => vec![find(wallet, name).await?],
        None => wallet.groups().await?,
    };
    let mut troubled = false;
    for group in &groups {
        let health = wallet.health(group).await?;
        troubled |= health.gap || health.unpublished > 0;
        match globals.json() {
            true => print(serde_json::to_string(&health)?)?,
            false => say(&health)?,
        }
    }
    let mut keys = wallet.checked_logs().await?;
    if group.is_some() {
        keys.retain(|key| groups.iter().any(|group| group.log_key() == key));
    }
    for key in keys {
        for fault in wallet.faults(&key).await? {
            troubled = true;
            let file = fault.file.as_deref().unwrap_or("no file");
            match globals.json() {
                true => print(serde_json::to_string(&fault)?)?,
                false => {
                    print(format_args!("{}: {} (evidence: {file})", key.name(), fault.what))?;
                }
            }
        }
    }
    Ok(troubled)
}

fn say(health: &GroupHealth) -> std::io::Result<()> {
    let name = Printable(&health.group).to_string();
    let blame = |excused: bool| match excused {
        false => "the relay has left it out, or it never was",
        true => "it may be one of those that were no longer kept, or it was accepted",
    };
    let messages: u64 = health.members.iter().map(|member| member.messages).sum();
    print(format_args!("{name}: {messages} messages of {} members", health.members.len()))?;
    for missing in &health.missing {
        let seen_by = Printable(&missing.seen_by.join(", ")).to_string();
        let id = &missing.message[..16];
        print(format_args!(
            "{name}: message {id} is missing; {seen_by} says it was there: {}",
            blame(missing.excused)
        ))?;
    }
    for member in &health.members {
        if !member.missing.is_empty() {
            let who = Printable(&member.name);
            let numbers: Vec<String> = member.missing.iter().map(u64::to_string).collect();
            let numbers = numbers.join(", ");
            let blame = blame(member.missing.len() == member.excused.len());
            print(format_args!("{name}: of {who} these numbers are missing: {numbers}: {blame}"))?;
        }
    }
    for part in &health.incomplete {
        let (id, here, of) = (&part.message[..16], part.parts, part.of);
        print(match here == of {
            true => format!("{name}: message {id} is of a newer version of tocyn, or spoiled"),
            false => format!("{name}: of message {id} {here} of {of} cells are here so far"),
        })?;
    }
    let numbers = [
        (health.late, "messages came late: they were held back, or sent late, or a clock is wrong"),
        (health.unpublished, "of your messages were acknowledged and are not in the log"),
        (health.duplicates, "cells came again, which changes nothing"),
        (health.spoiled, "cells only pretend to be of this group, which changes nothing"),
        (health.skipped, "messages of the log were no longer kept when this group was read"),
        (health.waiting, "of your cells wait to be sent; see `tocyn send --resume`"),
    ];
    for (number, what) in numbers.into_iter().filter(|(number, _)| *number > 0) {
        print(format_args!("{name}: {number} {what}"))?;
    }
    Ok(())
}
