//! `tocyn request`.

use std::io::IsTerminal;
use std::time::Duration;

use getrandom::SysRng;
use indicatif::{ProgressBar, ProgressStyle};
use rand_core::{Rng, UnwrapErr};
use serde_json::json;
use tocyn_client::issuer::IssuerClient;
use tocyn_client::pins::meet;
use tocyn_client::request::{Agreed, BATCH_SIZES, Bought, Pays, agree, request, resume};
use tocyn_client::transport::ServiceUrl;
use tocyn_client::work::Progress;
use zeroize::Zeroizing;

use super::group::find;
use super::send::relay_of;
use crate::cli::{CliResult, Globals, check_voucher, now, session};
use crate::output::{print_done, tell};

/// From this many tokens on a progress bar is shown.
const PROGRESS_FROM: u64 = 1024;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The issuer; without it the one that the relay's statement of keys names.
    #[arg(long, value_name = "URL")]
    issuer: Option<ServiceUrl>,
    /// The relay that the tokens are for.
    #[arg(long, value_name = "URL", required_unless_present = "group")]
    relay: Option<ServiceUrl>,
    /// Issuer and relay of this group instead.
    #[arg(long, value_name = "GROUP", conflicts_with_all = ["issuer", "relay"])]
    group: Option<String>,
    /// The voucher that pays; `-` reads it from standard input, where `ps` does not show it.
    #[arg(long, value_name = "CODE")]
    voucher: Option<String>,
    /// Work for the tokens instead, where the issuer takes that: this computer solves puzzles.
    #[arg(long, conflicts_with = "voucher")]
    work: bool,
    /// Pay nothing, where the issuer is open to all.
    #[arg(long, conflicts_with_all = ["voucher", "work"])]
    free: bool,
    /// How many tokens; rounded up to a multiple of 16.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    #[arg(required_unless_present = "resume")]
    count: Option<u64>,
    /// Buy nothing, only ask again for what earlier runs asked for and did not receive, each over a
    /// connection of its own.
    #[arg(long, conflicts_with_all = ["voucher", "work", "free", "count", "low_water"])]
    resume: bool,
    /// Do nothing if the wallet has at least this many unspent tokens for the relay.
    #[arg(long, value_name = "N")]
    low_water: Option<u64>,
    /// First wait for a random time up to this, so that the hour of a refill says nothing.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    delay: Option<Duration>,
}

pub(crate) async fn run(globals: &Globals, args: Args) -> CliResult {
    let voucher = Zeroizing::new(match args.voucher.as_deref() {
        Some("-") => std::io::read_to_string(std::io::stdin())?,
        Some(code) => code.to_owned(),
        None if args.work || args.free || args.resume => String::new(),
        None => {
            return Err(
                "give --voucher CODE; or --work, if the issuer takes work; or --free, if it \
                is open to all"
                    .into(),
            );
        }
    });
    if args.voucher.is_some() {
        check_voucher(&voucher)?;
    }
    if let Some(longest) = args.delay {
        let share = f64::from(UnwrapErr(SysRng).next_u32()) / f64::from(u32::MAX);
        tokio::time::sleep(longest.mul_f64(share)).await;
    }
    let wallet = match args.resume || args.group.is_some() {
        true => globals.wallet().await?, // what it speaks of is in there
        false => globals.new_wallet().await?,
    };
    let group = match &args.group {
        Some(name) => Some(find(&wallet, name).await?),
        None => None,
    };
    let transport = match &group {
        Some(group) => globals.transport_of(group)?,
        None => globals.transport()?,
    };
    let session = session(&wallet);
    let met = match (&args.relay, &group) {
        (Some(url), _) => meet(&session, &globals.relay(url)?, None).await?,
        (_, Some(group)) => relay_of(globals, &session, group).await?.1,
        _ => return Err("give --group or --relay".into()),
    };
    let issuer_url = match (&args.issuer, &group, &met.pin.statement.issuer_address) {
        (Some(url), _, _) => url.clone(),
        (_, Some(group), _) if group.invite.issuer.is_loopback() => group.invite.issuer.clone(),
        (_, _, Some(named)) => {
            tell(format_args!("the tokens are asked for at {named}, as the relay has stated"));
            named.as_str().parse()?
        }
        _ => return Err("the relay names no address of its issuer; give --issuer".into()),
    };
    if issuer_url.is_readable_on_the_way() {
        tell(format_args!(
            "{issuer_url} is neither https nor an onion service: whoever is on the way can read \
             your voucher"
        ));
    }
    let issuer = IssuerClient::new(&transport, issuer_url);
    let agreed = agree(&session, &issuer, met).await?;
    let (origin, keys) = (&agreed.met.pin.key, agreed.met.keys());
    wallet.drop_expired(origin, keys, now()).await?;
    let unspent = async || wallet.spendable(origin, keys, now()).await;
    if args.resume {
        let bought = resume(&session, &issuer, &agreed, |_| {}).await?;
        return end(globals, &agreed, &bought, unspent().await?);
    }
    if let Some(low_water) = args.low_water {
        let unspent = unspent().await?;
        if unspent >= low_water {
            tell(format_args!("the wallet has {unspent} tokens for this relay; none are bought"));
            return Ok(());
        }
    }

    let count = args.count.ok_or("give --count N, or --resume")?;
    let goal = count.next_multiple_of(*BATCH_SIZES.last().expect("three sizes"));
    if goal != count {
        tell(format_args!(
            "asking for {goal} tokens: batches are of 16, 64 or 256, so that their size tells \
             nothing"
        ));
    }
    let bar = progress_bar(goal, globals.json());
    let mut so_far = 0;
    let work = WorkBar::new(globals.json());
    let mut tell = |progress: Progress| work.show(progress);
    let pays = match (args.work, args.free) {
        (true, _) => Pays::Work(&mut tell),
        (_, true) => Pays::Nothing,
        _ => Pays::Voucher(voucher.trim()),
    };
    let result = request(&session, &issuer, &agreed, pays, count, |number| {
        so_far = number;
        bar.set_position(number);
    })
    .await;
    bar.finish_and_clear();
    work.end();
    let unspent = unspent().await?;
    let bought = match result {
        Ok(bought) => bought,
        Err(error) if so_far == 0 => return Err(error.into()),
        Err(error) => {
            let came = format!("{so_far} of {goal} tokens came and are in the wallet");
            return Err(format!("{error} ({came})").into());
        }
    };
    end(globals, &agreed, &bought, unspent)?;
    wallet.close().await;
    Ok(())
}

/// Says what came.
fn end(globals: &Globals, agreed: &Agreed, bought: &Bought, unspent: u64) -> CliResult {
    for (tokens, why) in &bought.stuck {
        tell(format_args!("{tokens} tokens that were asked for before are still pending: {why}"));
    }
    if bought.others > 0 {
        tell(format_args!(
            "{} tokens that were asked for before, not with this voucher, are still pending; `tocyn \
             request --resume` asks for them, at a time of its own: now the issuer would know both \
             for one buyer's",
            bought.others
        ));
    }
    let received = bought.received;
    let text = match globals.json() {
        true => json!({ "received": received, "unspent": unspent }).to_string(),
        false => format!(
            "received {received} tokens; {unspent} unspent for {}",
            agreed.met.pin.key.name()
        ),
    };
    let done = format!(
        "{received} tokens were received and are in the wallet: nothing needs to be bought again"
    );
    Ok(print_done(text, &done)?)
}

/// How far the work for one batch is. It is done at a random moment, so it shows the average.
struct WorkBar(ProgressBar);

impl WorkBar {
    fn new(quiet: bool) -> Self {
        if quiet || !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template("working {bar:30} {msg}");
        Self(ProgressBar::new(0).with_style(style.expect("the template is well formed")))
    }

    fn show(&self, progress: Progress) {
        self.0.set_length(progress.expected);
        self.0.set_position(progress.tried.min(progress.expected));
        if let Some(left) = progress.left() {
            let left = Duration::from_secs(left.as_secs() + 1);
            self.0.set_message(format!(
                "about {} for a batch on average, {} so far",
                humantime::format_duration(left),
                humantime::format_duration(Duration::from_secs(progress.elapsed.as_secs()))
            ));
        }
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}

fn progress_bar(goal: u64, quiet: bool) -> ProgressBar {
    if quiet || goal < PROGRESS_FROM || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} tokens, {per_sec}, {eta} left")
        .expect("the template is well formed");
    ProgressBar::new(goal).with_style(style)
}
