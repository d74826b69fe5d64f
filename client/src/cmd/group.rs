//! `tocyn group`.

use std::io::{IsTerminal, Write};

use getrandom::SysRng;
use qrcode::{EcLevel, QrCode};
use rand_core::UnwrapErr;
use serde_json::json;
use tocyn_client::group::GroupSecret;
use tocyn_client::group::invite::{Invite, MAX_RELAYS, check_name};
use tocyn_client::group::message::{AuthorKey, MAX_NAME_BYTES};
use tocyn_client::issuer::IssuerClient;
use tocyn_client::pins::meet;
use tocyn_client::printable::Printable;
use tocyn_client::request::agree;
use tocyn_client::transport::{ServiceUrl, Transport};
use tocyn_client::wallet::{Group, NewGroup, Wallet};
use zeroize::Zeroizing;

use crate::cli::{CliResult, Globals, session};
use crate::output::{print, stdout, tell};

/// Groups whose members talk through a relay that can tell neither who they are nor what they say.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Make a group, at a relay and with an issuer that both answer now.
    Create(Create),
    /// Show the groups that you are in.
    List,
    /// Show what makes others members: a string, and a QR code if this is a terminal.
    Invite {
        /// The group.
        #[arg(value_name = "GROUP")]
        name: String,
    },
    /// Become a member.
    Join(Join),
    /// Forget a group: its secret, and all that was said in it. The others are not told.
    Leave {
        /// The group.
        #[arg(value_name = "GROUP")]
        name: String,
        /// Also messages that are not sent yet.
        #[arg(long)]
        unsent: bool,
    },
}

#[derive(clap::Args)]
pub(crate) struct Create {
    /// What to call the group.
    #[arg(value_name = "GROUP")]
    name: String,
    /// The relay; several addresses of one relay may be given.
    #[arg(long, value_name = "URL", required = true)]
    relay: Vec<ServiceUrl>,
    /// The issuer of the relay's tokens.
    #[arg(long, value_name = "URL")]
    issuer: ServiceUrl,
    /// What the others shall call you.
    #[arg(long = "as", value_name = "NAME", default_value = "")]
    own_name: String,
}

#[derive(clap::Args)]
pub(crate) struct Join {
    /// The invite; `-` reads it from standard input, where `ps` does not show it.
    #[arg(value_name = "INVITE")]
    invite: String,
    /// Call the group otherwise than the invite does.
    #[arg(long, value_name = "GROUP")]
    name: Option<String>,
    /// What the others shall call you.
    #[arg(long = "as", value_name = "NAME", default_value = "")]
    own_name: String,
}

pub(crate) async fn run(globals: &Globals, command: Command) -> CliResult {
    match command {
        Command::Create(args) => create(globals, args).await,
        Command::List => list(globals).await,
        Command::Invite { name } => invite(globals, &name).await,
        Command::Join(args) => join(globals, args).await,
        Command::Leave { name, unsent } => leave(globals, &name, unsent).await,
    }
}

/// The group of this name, or what to do.
pub(crate) async fn find(wallet: &Wallet, name: &str) -> CliResult<Group> {
    let unknown = || format!("you are in no group called {name}; see `tocyn group list`");
    Ok(wallet.group(name).await?.ok_or_else(unknown)?)
}

async fn create(globals: &Globals, args: Create) -> CliResult {
    check_name(&args.name)?;
    if args.relay.len() > MAX_RELAYS {
        return Err(format!("give at most {MAX_RELAYS} addresses of the relay").into());
    }
    let wallet = globals.new_wallet().await?;
    let transport = globals.transport()?;
    let issuer = IssuerClient::new(&transport, args.issuer.clone());
    let session = session(&wallet);
    let met = meet(&session, &globals.relay(&args.relay[0])?, None).await?;
    let met = agree(&session, &issuer, met).await?.met;
    for url in &args.relay[1..] {
        if meet(&session, &globals.relay(url)?, None).await?.pin.key != met.pin.key {
            return Err(format!("{url} is not an address of the relay at {}", args.relay[0]).into());
        }
    }
    let invite = Invite {
        secret: GroupSecret::generate(&mut UnwrapErr(SysRng)),
        name: args.name,
        log_key: met.pin.key.clone(),
        statement: met.pin.statement.commitment().hash,
        issuer: args.issuer,
        cell_bytes: met.info.cell_bytes as u16, // the client believes in no larger ones
        relays: args.relay,
    };
    add(&wallet, &invite, &args.own_name, &transport).await?;
    wallet.close().await;
    print(format_args!(
        "you are the first member of {}; `tocyn group invite` shows what makes others members",
        invite.name
    ))?;
    Ok(())
}

async fn join(globals: &Globals, args: Join) -> CliResult {
    let text = Zeroizing::new(match args.invite.as_str() {
        "-" => std::io::read_to_string(std::io::stdin())?,
        text => text.to_owned(),
    });
    let mut invite: Invite = text.parse()?;
    if let Some(name) = args.name {
        check_name(&name)?;
        invite.name = name;
    }
    let (wallet, transport) = (globals.new_wallet().await?, globals.transport()?);
    add(&wallet, &invite, &args.own_name, &transport).await?;
    wallet.close().await;
    print(format_args!(
        "you are a member of {}. Its relay is {}, its tokens come from {}: whoever made the invite \
         chose both, and the issuer gets your vouchers. `tocyn sync` reads what was said",
        Printable(&invite.name),
        invite.relays[0],
        invite.issuer
    ))?;
    Ok(())
}

async fn add(wallet: &Wallet, invite: &Invite, own_name: &str, transport: &Transport) -> CliResult {
    if own_name.len() > MAX_NAME_BYTES || own_name.chars().any(char::is_control) {
        return Err(format!(
            "your name has at most {MAX_NAME_BYTES} bytes and no control characters"
        )
        .into());
    }
    let author = AuthorKey::generate(&mut UnwrapErr(SysRng));
    let secret = &invite.secret;
    if let Some(known) = wallet.groups().await?.iter().find(|g| g.invite.secret == *secret) {
        return Err(
            format!("you are in this group already; it is called {}", known.invite.name).into()
        );
    }
    let added =
        wallet.add_group(&NewGroup { invite, author: &author, own_name, transport }).await?;
    match added {
        true => Ok(()),
        false => Err(format!(
            "you are in another group called {}; give this one another name",
            Printable(&invite.name)
        )
        .into()),
    }
}

async fn list(globals: &Globals) -> CliResult {
    let wallet = globals.wallet().await?;
    let groups = wallet.groups().await?;
    let mut out = stdout();
    for group in &groups {
        let health = wallet.health(group).await?;
        let messages: u64 = health.members.iter().map(|member| member.messages).sum();
        let invite = &wallet.invite_of(group).await?;
        let relay = &invite.relays[0];
        match globals.json() {
            true => {
                let relays: Vec<String> = invite.relays.iter().map(ToString::to_string).collect();
                let row = json!({
                    "name": invite.name, "messages": messages, "members": health.members.len(),
                    "relays": relays, "issuer": invite.issuer.to_string(),
                    "log_key": invite.log_key, "waiting": health.waiting,
                });
                writeln!(out, "{row}")?;
            }
            false => {
                let (name, members) = (Printable(&invite.name), health.members.len());
                write!(out, "{name}: {messages} messages of {members} members, at {relay}")?;
                match health.waiting {
                    0 => writeln!(out)?,
                    cells => writeln!(out, "; {cells} cells wait (`tocyn send {name} --resume`)")?,
                }
            }
        }
    }
    if groups.is_empty() && !globals.json() {
        writeln!(out, "you are in no group; see `tocyn group create` and `tocyn group join`")?;
    }
    wallet.close().await;
    Ok(())
}

async fn invite(globals: &Globals, name: &str) -> CliResult {
    let wallet = globals.wallet().await?;
    let group = find(&wallet, name).await?;
    // With what is accepted here by now: less is left for the new member to follow.
    let text = wallet.invite_of(&group).await?.to_secret_text();
    wallet.close().await;
    tell("whoever has this is a member and can read all that was ever said");
    if globals.json() {
        print(json!({ "invite": text.as_str() }))?;
        return Ok(());
    }
    if std::io::stdout().is_terminal() {
        print(qr(&text)?)?;
    }
    print(text.as_str())?;
    Ok(())
}

/// The text as a QR code of half blocks, light on dark.
fn qr(text: &str) -> CliResult<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L)?;
    let mut renderer = code.render::<qrcode::render::unicode::Dense1x2>();
    Ok(renderer
        .dark_color(qrcode::render::unicode::Dense1x2::Light)
        .light_color(qrcode::render::unicode::Dense1x2::Dark)
        .build())
}

async fn leave(globals: &Globals, name: &str, unsent: bool) -> CliResult {
    let wallet = globals.wallet().await?;
    let group = find(&wallet, name).await?;
    let waiting = wallet.waiting(&group).await?.len();
    if waiting > 0 && !unsent {
        return Err(format!(
            "{waiting} cells of your messages to {name} are not sent yet; send them with `tocyn send \
             {name} --resume`, or leave with --unsent"
        )
        .into());
    }
    wallet.drop_group(&group).await?;
    wallet.close().await;
    print(format_args!("you are no longer in {name}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invite_of_onion_services_fits_a_terminal() {
        let onion = format!("http://{}.onion", "a".repeat(56));
        let invite = Invite {
            secret: GroupSecret::generate(&mut UnwrapErr(SysRng)),
            name: "Friends".to_owned(),
            log_key: tocyn_protocol::log::note::LogKey::generate(
                "relay.example",
                &mut UnwrapErr(SysRng),
            )
            .verifier(),
            statement: tocyn_protocol::statement::StatementHash([7; 32]),
            issuer: onion.parse().unwrap(),
            cell_bytes: 2048,
            relays: vec![onion.parse().unwrap()],
        };
        let code = qr(&invite.to_secret_text()).unwrap();
        let (lines, columns) = (code.lines().count(), code.lines().next().unwrap().chars().count());
        assert!(lines <= 42 && columns <= 80, "{lines} lines of {columns}");
    }
}
