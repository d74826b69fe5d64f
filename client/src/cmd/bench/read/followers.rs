//! How long it takes until everybody who follows a relay has a message.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tocyn_protocol::relay::PostReceipt;

use super::super::charts::{Axis, Chart, Line, Scale};
use super::super::load::latency::{self, cells};
use super::super::load::wire::Connection;
use super::super::load::{self, Answer, Plan, Request, Source, Verdict};
use super::super::relay::posts::Posts;
use super::super::report::Table;
use super::super::series::percentiles;
use super::super::services::Services;
use super::super::usage::{Meter, Usage};
use super::frames::Frames;
use crate::cli::CliResult;

/// A receipt comes early if the post is slow, so a few connections post.
pub(super) const POSTERS: usize = 4;
/// Followers get so long for what was posted.
const PATIENCE: Duration = Duration::from_secs(60);

/// How to measure.
pub(super) struct Args {
    pub(super) followers: usize,
    pub(super) posts: u64,
    pub(super) rate: f64,
    pub(super) cell_bytes: usize,
    /// The newest message before the run.
    pub(super) head: u64,
}

/// When a post was sent and its receipt came.
#[derive(Clone, Copy)]
struct Receipt {
    sent: Instant,
    received: Instant,
}

/// Latencies of a run, in microseconds. A message that comes before its poster's receipt counts
/// as 0 from the receipt.
struct Spread {
    /// Of each message and follower, from the receipt.
    each: Histogram<u64>,
    /// Of each message, from the receipt to the last follower.
    last: Histogram<u64>,
    /// Of each message, from the moment of posting to the last follower.
    last_from_sent: Histogram<u64>,
}

/// What a run showed.
pub(super) struct Followed {
    spread: Spread,
    usage: Usage,
}

/// Posts that note when they are sent and acknowledged.
struct Timed {
    posts: Posts,
    sent: [Option<Instant>; POSTERS],
    receipts: HashMap<u64, Receipt>,
}

impl Source for Timed {
    const KINDS: &'static [&'static str] = Posts::KINDS;

    fn next(&mut self, connection: usize) -> Option<Request> {
        self.sent[connection] = Some(Instant::now());
        self.posts.next(connection)
    }

    fn check(&mut self, connection: usize, request: &Request, answer: &Answer<'_>) -> Verdict {
        let received = Instant::now();
        let verdict = self.posts.check(connection, request, answer);
        let receipt = serde_json::from_slice::<PostReceipt>(answer.body);
        match (verdict, receipt, self.sent[connection]) {
            (Verdict::Good, Ok(receipt), Some(sent)) => {
                self.receipts.insert(receipt.seq, Receipt { sent, received });
                Verdict::Good
            }
            (Verdict::Good, ..) => Verdict::Wrong,
            (other, ..) => other,
        }
    }
}

/// Lets them follow, then posts.
pub(super) async fn run(
    services: &Services,
    args: &Args,
    posts: Posts,
    bar: &ProgressBar,
) -> CliResult<Followed> {
    let address = services.relay_address()?;
    let mut followers = Vec::with_capacity(args.followers);
    for _ in 0..args.followers {
        followers.push(follow(&address, args.head).await?);
    }
    let meter = Meter::start(services.own.as_ref());
    let source = Timed { posts, sent: [None; POSTERS], receipts: HashMap::new() };
    let plan = Plan {
        addresses: std::slice::from_ref(&address),
        connections: POSTERS,
        rate: Some(args.rate),
        seconds: None,
        requests: args.posts,
    };
    let posting = async {
        let (run, source) = load::run(&plan, source, bar).await?;
        if run.good() < args.posts {
            let good = run.good();
            return Err(format!("{good} of {} posts were stored; lower --rate", args.posts).into());
        }
        Ok(source.receipts)
    };
    let limit = Duration::from_secs_f64(args.posts as f64 / args.rate) + PATIENCE;
    let reading = async {
        let all = try_join_all(followers.into_iter().map(|follower| receive(follower, args)));
        tokio::time::timeout(limit, all)
            .await
            .map_err(|_| "some followers have not got all messages within a minute")?
    };
    let (receipts, arrivals) = tokio::try_join!(posting, reading)?;
    let usage = meter.stop();
    let spread = spread(&receipts, args.head, &arrivals)?;
    Ok(Followed { spread, usage })
}

async fn follow(address: &str, after: u64) -> CliResult<Connection> {
    let request =
        format!("GET /v1/messages?after={after}&follow=true HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let opened = Connection::open(address).await;
    let mut connection = opened.map_err(|error| format!("{address}: {error}"))?;
    connection.send([request.as_bytes(), b""]).await?;
    match connection.head().await? {
        200 => Ok(connection),
        503 => Err("the relay takes no more followers; see limits.max_followers".into()),
        status => Err(format!("the relay answered a follower with status {status}").into()),
    }
}

/// When each message came, in their order.
async fn receive(mut follower: Connection, args: &Args) -> CliResult<Vec<Instant>> {
    let mut frames = Frames::new(args.cell_bytes, args.head);
    let mut arrivals = Vec::with_capacity(args.posts as usize);
    while (arrivals.len() as u64) < args.posts {
        let Some(bytes) = follower.piece().await? else {
            return Err("the relay ended the stream of a follower".into());
        };
        frames.push(bytes)?;
        let now = Instant::now();
        arrivals.resize((frames.last() - args.head) as usize, now);
    }
    Ok(arrivals)
}

fn spread(
    receipts: &HashMap<u64, Receipt>,
    head: u64,
    arrivals: &[Vec<Instant>],
) -> Result<Spread, String> {
    let mut spread = Spread {
        each: latency::histogram(),
        last: latency::histogram(),
        last_from_sent: latency::histogram(),
    };
    for (seq, receipt) in receipts {
        let place = seq.checked_sub(head + 1).ok_or("a receipt names a message that was there")?;
        let mut last = receipt.sent;
        for follower in arrivals {
            let arrival = *follower
                .get(place as usize)
                .ok_or("somebody else posts to this relay; measure one that is at rest")?;
            latency::record(&mut spread.each, arrival.saturating_duration_since(receipt.received));
            last = last.max(arrival);
        }
        latency::record(&mut spread.last, last.saturating_duration_since(receipt.received));
        latency::record(&mut spread.last_from_sent, last - receipt.sent);
    }
    Ok(spread)
}

/// The run, as it is reported.
pub(super) fn report(followed: &Followed) -> (Vec<Table>, Vec<Chart>, Value) {
    let Spread { each, last, last_from_sent } = &followed.spread;
    let rows = [
        ("each follower, from the receipt", each),
        ("the last follower, from the receipt", last),
        ("the last follower, from posting", last_from_sent),
    ];
    let mut table =
        Table::new(["until a message is with", "p50 ms", "p99 ms", "p99.9 ms", "max ms"]);
    for (name, histogram) in rows {
        table.rows.push([vec![name.to_owned()], cells(histogram).into()].concat());
    }
    let mut usage = Table::new(["cores: followers", "relay", "issuer", "others"]);
    usage
        .rows
        .push(followed.usage.cores().map(|cores| super::super::report::number(cores, 2)).into());
    let chart = Chart {
        title: "Latency percentiles",
        caption: "Time until a message is with its followers.".to_owned(),
        x: Axis { name: "share of messages", scale: Scale::Nines },
        y: Axis { name: "milliseconds", scale: Scale::Linear },
        lines: rows
            .map(|(name, histogram)| Line { name: name.to_owned(), points: percentiles(histogram) })
            .into(),
    };
    let json = json!({
        "each_from_receipt_us": latency::to_json(each),
        "last_from_receipt_us": latency::to_json(last),
        "last_from_sent_us": latency::to_json(last_from_sent),
        "cpu": followed.usage.to_json(),
        "relay_peak_bytes": followed.usage.relay_peak_bytes,
    });
    (vec![table, usage], vec![chart], json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_follower_counts() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let receipts = HashMap::from([
            (8, Receipt { sent: at(0), received: at(10) }),
            (9, Receipt { sent: at(20), received: at(30) }),
        ]);
        let arrivals = [vec![at(5), at(31)], vec![at(50), at(31)]];
        let spread = spread(&receipts, 7, &arrivals).unwrap();
        assert_eq!((spread.each.len(), spread.last.len()), (4, 2));
        let ms = |us: u64| (us as f64 / 1e3).round();
        assert_eq!((ms(spread.last.max()), ms(spread.last.min())), (40.0, 1.0));
        assert_eq!((ms(spread.last_from_sent.max()), ms(spread.each.min())), (50.0, 0.0));
        assert!(super::spread(&receipts, 8, &arrivals).is_err());
        assert!(super::spread(&receipts, 7, &[vec![at(5)]]).is_err());
    }
}
