//! Everything goes wrong at once, and what clients were told stays true. The faults of a run are
//! drawn from a seed, which is printed: `TOCYN_SEED=N ./test scale_faults` has them again.
//! `TOCYN_RUNS` says how many runs there are.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tocyn_e2e::cluster::Cluster;
use tocyn_e2e::faults::{Dice, Happened, KINDS, Settings, schedule, unleash};
use tocyn_e2e::history::check;
use tocyn_e2e::load::Load;

use crate::heavy;

const RUNS: u64 = 5;
/// Fewer posts than this in a run would show little.
const LEAST_POSTS: usize = 200;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text}")))
}

/// The seeds of this run: one that was asked for, or fresh ones.
fn seeds(runs: u64) -> Vec<u64> {
    if let Some(seed) = number("TOCYN_SEED") {
        return vec![seed];
    }
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let mut dice = Dice::new(since.as_nanos() as u64);
    (0..runs).map(|_| dice.below(1 << 32)).collect()
}

async fn run(cluster: Cluster, dice: &mut Dice, settings: Settings, name: &str) {
    let cluster = Arc::new(cluster);
    let load = Load::new(&cluster).await;
    let running = load.start(8, dice);
    let faults = schedule(dice, settings);
    println!("{name}: {faults:?}");
    let happened = Arc::new(Happened::default());
    unleash(&cluster, faults.clone(), &happened).await;
    // A little while in which all is well again.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let finish = tokio::time::timeout(Duration::from_secs(120), running.finish(&load, &cluster));
    let Ok(state) = finish.await else {
        let log = cluster.nodes[0].log();
        panic!("{name}: the clients do not come to an end; the relays' log: {log}");
    };
    let violations = load.recorder.with(|history| check(history, &state));
    assert!(violations.is_empty(), "{name}: {} violations: {violations:?}", violations.len());
    let fault = cluster.relay_command(&["db", "check"]);
    assert!(fault.contains("no fault found"), "{name}: {fault}");

    let (posts, acknowledged) = load.recorder.with(|history| {
        let acknowledged = history.posts.iter().filter(|post| post.outcome.receipt().is_some());
        (history.posts.len(), acknowledged.count())
    });
    let counts = happened.counts();
    let kinds: Vec<_> = KINDS.iter().zip(counts).map(|(k, n)| format!("{k} {n}")).collect();
    println!(
        "{name}: {posts} posts sent, {acknowledged} acknowledged, {} in the log; longest silence {} ms; {}",
        state.logs[0].len(),
        load.longest_silence().as_millis(),
        kinds.join(", ")
    );
    assert!(acknowledged > LEAST_POSTS, "{name}: only {acknowledged} posts were acknowledged");
    let happened = counts.iter().sum::<u64>();
    assert!(happened * 3 >= faults.len() as u64 * 2, "{name}: of {faults:?} only {counts:?}");
    assert!(load.replayed() > 0, "{name}: no spent token was shown again");
    for log in [&cluster.nodes[0], cluster.nodes.last().unwrap()].map(|node| node.log()) {
        assert!(!log.contains("panicked"), "{name}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_relays_and_two_issuers_on_one_postgres_keep_every_promise_under_faults() {
    let _turn = heavy().await;
    let nightly = number("TOCYN_RUNS").is_some_and(|runs| runs > RUNS);
    for seed in seeds(number("TOCYN_RUNS").unwrap_or(RUNS)) {
        let mut dice = Dice::new(seed);
        // In one run of three epochs change all the time.
        let short_epochs = dice.below(3) == 0;
        let name = format!("TOCYN_SEED={seed}{}", if short_epochs { ", short epochs" } else { "" });
        let seconds = |n| Duration::from_secs(n);
        let settings = Settings {
            nodes: 5,
            length: if nightly { seconds(20) } else { seconds(8) },
            longest_pause: if nightly { seconds(10) } else { seconds(4) },
            postgres: true,
            clocks: !short_epochs,
        };
        let epoch = if short_epochs { "5s" } else { "7d" };
        let cluster = Cluster::on_postgres(3, 2, epoch).await;
        run(cluster, &mut dice, settings, &name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_and_an_issuer_on_sqlite_keep_every_promise_under_faults() {
    let _turn = heavy().await;
    let runs = number("TOCYN_RUNS").unwrap_or(RUNS).div_ceil(3);
    for seed in seeds(runs) {
        let mut dice = Dice::new(seed);
        let settings = Settings {
            nodes: 2,
            length: Duration::from_secs(6),
            longest_pause: Duration::from_secs(2),
            postgres: false,
            clocks: true,
        };
        let cluster = Cluster::on_sqlite("7d").await;
        run(cluster, &mut dice, settings, &format!("SQLite, TOCYN_SEED={seed}")).await;
    }
}
