//! What goes wrong in a run: drawn from a seed, so that it can be had again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::chaos::{Chaos, Weather};
use crate::cluster::{Cluster, Node};

/// A small generator of numbers that look random (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The same seed throws the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.throw() % n
    }

    /// A time between both.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = (most - least).as_millis().max(1) as u64;
        least + Duration::from_millis(self.below(span))
    }
}

/// One thing that goes wrong. Nodes are numbers in [`Cluster::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`, and a start after this time.
    Kill(usize, Duration),
    /// SIGSTOP, and SIGCONT after this time.
    Pause(usize, Duration),
    /// `kill -9` of PostgreSQL, and a start after this time.
    KillPostgres(Duration),
    /// The network between clients and the process is like this for a time.
    Front(usize, Weather, Duration),
    /// The network between the process and PostgreSQL is like this for a time.
    Back(usize, Weather, Duration),
    /// The process's clock is so many seconds off for a time.
    Clock(usize, i64, Duration),
}

/// Kinds of faults, as they are counted.
pub const KINDS: [&str; 6] =
    ["kill", "pause", "postgres killed", "network to clients", "network to postgres", "clock"];

impl Fault {
    /// Its number in [`KINDS`].
    pub fn kind(&self) -> usize {
        match self {
            Self::Kill(..) => 0,
            Self::Pause(..) => 1,
            Self::KillPostgres(..) => 2,
            Self::Front(..) => 3,
            Self::Back(..) => 4,
            Self::Clock(..) => 5,
        }
    }
}

/// What a run is like.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Processes.
    pub nodes: usize,
    /// How long faults begin.
    pub length: Duration,
    /// The longest SIGSTOP.
    pub longest_pause: Duration,
    /// Whether there is a PostgreSQL.
    pub postgres: bool,
    /// Whether clocks are stepped: not where epochs are short.
    pub clocks: bool,
}

/// When what goes wrong. Each kind comes once at least, and several may overlap.
pub fn schedule(dice: &mut Dice, settings: Settings) -> Vec<(Duration, Fault)> {
    let mut kinds = vec![0, 1, 3];
    if settings.postgres {
        kinds.extend([2, 4]);
    }
    if settings.clocks {
        kinds.push(5);
    }
    let more = settings.length.as_secs();
    // Never a second kill of PostgreSQL: its recovery would take up a short run.
    let repeatable: Vec<usize> = kinds.iter().copied().filter(|kind| *kind != 2).collect();
    for _ in 0..more {
        kinds.push(repeatable[dice.below(repeatable.len() as u64) as usize]);
    }
    let mut faults: Vec<_> = kinds
        .into_iter()
        .map(|kind| {
            let at = dice.between(Duration::from_millis(500), settings.length);
            (at, fault(dice, kind, settings))
        })
        .collect();
    faults.sort_by_key(|(at, _)| *at);
    faults
}

fn fault(dice: &mut Dice, kind: usize, settings: Settings) -> Fault {
    let node = dice.below(settings.nodes as u64) as usize;
    let (moment, second) = (Duration::from_millis(200), Duration::from_secs(1));
    let weather = match dice.below(3) {
        0 => Weather::Cut,
        1 => Weather::Frozen,
        _ => Weather::Delayed(dice.between(Duration::from_millis(5), Duration::from_millis(300))),
    };
    match kind {
        0 => Fault::Kill(node, dice.between(moment, 2 * second)),
        1 => Fault::Pause(node, dice.between(second, settings.longest_pause)),
        2 => Fault::KillPostgres(dice.between(moment, second)),
        3 => Fault::Front(node, weather, dice.between(moment, 2 * second)),
        4 => Fault::Back(node, weather, dice.between(moment, 3 * second)),
        _ => {
            let offset = if dice.below(2) == 0 { 60 } else { -60 };
            Fault::Clock(node, offset, dice.between(second, 4 * second))
        }
    }
}

/// Faults that really happened, by kind.
#[derive(Debug, Default)]
pub struct Happened([AtomicU64; KINDS.len()]);

impl Happened {
    /// How many of each of [`KINDS`].
    pub fn counts(&self) -> [u64; KINDS.len()] {
        self.0.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}

/// Lets it all happen, and heals it. Returns when all is well again.
pub async fn unleash(
    cluster: &Arc<Cluster>,
    faults: Vec<(Duration, Fault)>,
    happened: &Arc<Happened>,
) {
    let mut tasks = tokio::task::JoinSet::new();
    for (at, fault) in faults {
        let (cluster, happened) = (cluster.clone(), happened.clone());
        tasks.spawn(async move {
            tokio::time::sleep(at).await;
            let struck = strike(&cluster, fault).await;
            happened.0[fault.kind()].fetch_add(struck.into(), Ordering::Relaxed);
        });
    }
    tasks.join_all().await;
    for number in 0..cluster.nodes.len() {
        cluster.nodes[number].set_clock(0);
        on(cluster, number, |node| {
            node.resume();
            node.start();
        })
        .await;
    }
}

/// Does something to a process that may take long, off the threads that others need.
async fn on<T: Send + 'static>(
    cluster: &Arc<Cluster>,
    number: usize,
    act: impl FnOnce(&Node) -> T + Send + 'static,
) -> T {
    let cluster = cluster.clone();
    let acted = tokio::task::spawn_blocking(move || act(&cluster.nodes[number]));
    acted.await.expect("what is done to a process succeeds")
}

/// Says whether it happened: a process that is dead already cannot be killed or stopped.
async fn strike(cluster: &Arc<Cluster>, fault: Fault) -> bool {
    match fault {
        Fault::Kill(number, time) => {
            let ran = on(cluster, number, Node::kill).await;
            tokio::time::sleep(time).await;
            on(cluster, number, Node::start).await;
            return ran;
        }
        Fault::Pause(number, time) => {
            let ran = on(cluster, number, Node::pause).await;
            tokio::time::sleep(time).await;
            on(cluster, number, Node::resume).await;
            return ran;
        }
        Fault::KillPostgres(time) => {
            let cluster = cluster.clone();
            let kill = move || {
                let postgres = cluster.postgres.as_ref().expect("it is there where this is");
                postgres.kill();
                std::thread::sleep(time);
                postgres.restart();
            };
            tokio::task::spawn_blocking(kill).await.expect("PostgreSQL starts again");
        }
        Fault::Front(number, weather, time) => {
            change(&cluster.nodes[number].front, weather, time).await;
        }
        Fault::Back(number, weather, time) => {
            let back = cluster.nodes[number].back.as_ref();
            change(back.expect("it is there where PostgreSQL is"), weather, time).await;
        }
        Fault::Clock(number, offset, time) => {
            cluster.nodes[number].set_clock(offset);
            tokio::time::sleep(time).await;
            cluster.nodes[number].set_clock(0);
        }
    }
    true
}

async fn change(network: &Chaos, weather: Weather, time: Duration) {
    network.set(weather);
    tokio::time::sleep(time).await;
    network.set(Weather::Fair);
}
