//! `tocyn bench read`.

mod download;
mod followers;
mod frames;
mod size;

use serde_json::json;
use tocyn_protocol::relay::RelayInfo;

use self::download::Wanted;
use super::load::{self, Plan};
use super::relay::posts::Posts;
use super::report::{Output, Report};
use super::series::within;
use super::services::{Needs, ServiceArgs, Services};
use super::tokens::Shop;
use crate::cli::CliResult;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    services: ServiceArgs,
    /// Bytes of cells to download, if the relay keeps so many; with --spawn so many are posted
    /// first.
    #[arg(long, default_value = "256MiB", value_name = "BYTES", value_parser = size::parse)]
    size: u64,
    /// Connections that download at once; several numbers give a run for each: 1,4,16.
    #[arg(long, default_value = "1", value_delimiter = ',', value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: Vec<u16>,
    /// Do not download: let so many readers follow, post, and see when they have it.
    #[arg(long, value_name = "N", conflicts_with_all = ["size", "connections"],
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    followers: Option<u16>,
    /// Posts for followers.
    #[arg(long, default_value_t = 200, value_name = "N", requires = "followers",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    posts: u32,
    /// Posts a second for followers.
    #[arg(long, default_value_t = 20.0, value_name = "N", requires = "followers", value_parser = rate)]
    rate: f64,
    #[command(flatten)]
    output: Output,
}

fn rate(text: &str) -> Result<f64, String> {
    within(text, 0.1, 10_000.0).ok_or("give posts a second, from 0.1 to 10000".to_owned())
}

/// Posts that are prepared at once to fill a relay.
const FILLING: u64 = 16_384;
/// Connections that fill it.
const FILLERS: usize = 64;

pub(crate) async fn run(args: &Args) -> CliResult {
    args.services.check(if args.followers.is_some() { Needs::Both } else { Needs::Relay });
    args.output.check()?;
    let services = args.services.open().await?;
    match args.followers {
        Some(followers) => follow(args, &services, followers.into()).await,
        None => download(args, &services).await,
    }
}

async fn download(args: &Args, services: &Services) -> CliResult {
    let relay = services.relay()?;
    if args.services.is_spawn() {
        let cell_bytes = relay.info().await?.cell_bytes;
        fill(args, services, args.size.div_ceil(cell_bytes)).await?;
    }
    let RelayInfo { oldest, head, cell_bytes, .. } = relay.info().await?;
    let messages = (head + 1).saturating_sub(oldest).min(args.size.div_ceil(cell_bytes));
    if messages == 0 {
        return Err("the relay keeps no message; post some first, or use --spawn".into());
    }
    let cell_bytes = cell_bytes as usize;
    let wanted = Wanted { after: oldest - 1, messages, cell_bytes };
    let mut runs = Vec::new();
    for connections in args.connections.iter().copied().map(usize::from) {
        let total = messages * cell_bytes as u64 * connections as u64;
        let bar = args.output.bar(total, format!("{connections} connections"));
        runs.push(download::run(services, wanted, connections, &bar).await?);
        bar.finish_and_clear();
    }
    let (table, charts, runs) = download::report(&runs);
    args.output.publish(&Report {
        title: "tocyn bench read: downloads from a relay",
        facts: vec![
            args.services.fact(),
            args.services.durability(),
            ("cells", format!("{cell_bytes} bytes")),
            ("download", format!("{messages} messages, seen to be without gaps")),
        ],
        tables: vec![table],
        notes: vec![
            "MB are millions of bytes of cells. Memory is resident; its peak is that of the run."
                .to_owned(),
        ],
        charts,
        json: json!({
            "benchmark": "read",
            "settings": {
                "spawned": args.services.is_spawn(),
                "durability": args.services.durability().1,
                "cell_bytes": cell_bytes,
                "messages": messages,
                "connections": args.connections,
            },
            "runs": runs,
        }),
    })
}

/// Posts so many messages.
async fn fill(args: &Args, services: &Services, messages: u64) -> CliResult {
    let (shop, address) = (Shop::open(services).await?, services.relay_address()?);
    let mix = "valid".parse()?;
    let bar = args.output.bar(messages, "filling the relay");
    let hidden = indicatif::ProgressBar::hidden();
    let mut stored = 0;
    while stored < messages {
        let most = FILLING.min(messages - stored);
        let posts = Posts::prepare(&shop, &address, mix, (most, most), FILLERS, &hidden).await?;
        let plan = Plan {
            addresses: std::slice::from_ref(&address),
            connections: FILLERS,
            rate: None,
            seconds: None,
            requests: most,
        };
        let (run, _) = load::run(&plan, posts, &hidden).await?;
        if let Some((_, status, _)) = run.first_wrong {
            return Err(format!("the relay answered a post with status {status}").into());
        }
        stored += run.good();
        bar.set_position(stored);
    }
    bar.finish_and_clear();
    Ok(())
}

async fn follow(args: &Args, services: &Services, followers: usize) -> CliResult {
    let (shop, address) = (Shop::open(services).await?, services.relay_address()?);
    let info = &shop.info;
    if followers as u64 > info.limits.max_followers {
        let most = info.limits.max_followers;
        return Err(format!("the relay takes {most} followers; give --followers {most}").into());
    }
    let (mix, count) = ("valid".parse()?, u64::from(args.posts));
    let bar = args.output.bar(count, "preparing tokens");
    let posters = followers::POSTERS;
    let posts = Posts::prepare(&shop, &address, mix, (count, count), posters, &bar).await?;
    bar.finish_and_clear();
    let how = followers::Args {
        followers,
        posts: count,
        rate: args.rate,
        cell_bytes: info.cell_bytes as usize,
        head: info.head,
    };
    let bar = args.output.bar(count, format!("{followers} followers"));
    let followed = followers::run(services, &how, posts, &bar).await?;
    bar.finish_and_clear();
    let (tables, charts, measured) = followers::report(&followed);
    args.output.publish(&Report {
        title: "tocyn bench read: until all followers have a message",
        facts: vec![
            args.services.fact(),
            args.services.durability(),
            ("cells", format!("{} bytes", info.cell_bytes)),
            ("load", format!("{count} posts, {} a second, {followers} followers", args.rate)),
        ],
        tables,
        notes: vec![
            "Measured at the poster: from the moment its receipt is read. A message that a \
             follower has by then counts as 0."
                .to_owned(),
        ],
        charts,
        json: json!({
            "benchmark": "read followers",
            "settings": {
                "spawned": args.services.is_spawn(),
                "durability": args.services.durability().1,
                "cell_bytes": info.cell_bytes,
                "followers": followers,
                "posts": count,
                "rate": args.rate,
            },
            "measured": measured,
        }),
    })
}
