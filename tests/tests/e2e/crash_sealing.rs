//! The process dies after every single step of sealing and of dropping; a relay that starts then has
//! every message, once, and mends what is left.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_e2e::bearer::{batch, bound, cell, http_client, post, read_all};
use tocyn_e2e::programs::program;
use tocyn_e2e::service::{Service, serve};
use tocyn_e2e::world::{World, output, succeed};
use tocyn_protocol::issuance::Issuer;
use tocyn_protocol::log::tile::put_entry;
use tocyn_protocol::redemption::{Authorization, Redeemer};
use tocyn_protocol::relay::{ProvenReceipt, RelayInfo};
use tocyn_protocol::token::Token;
use tocyn_relay::data_dir::DataDir;
use tocyn_relay::store::{Message, Store};
use tocyn_service::database::Database;
use tocyn_test_postgres::Postgres;

/// Two full bundles, and more.
const MESSAGES: usize = 600;
/// What is before this may go: all of the first bundle.
const KEEP_FROM: u64 = 300;
/// Steps until all is done: three for each file, the folder, the database; then the database and a
/// file again.
const STEPS: usize = 2 * 3 + 2 + 2;

/// A stopped relay with messages that are not sealed yet.
struct Stopped {
    world: World,
    /// Empty for a file.
    database: String,
    tokens: Vec<Token>,
    cells: Vec<Vec<u8>>,
}

impl Stopped {
    async fn new(on_postgres: bool) -> Self {
        let world = World::default();
        let database = if on_postgres { Postgres::shared().new_url() } else { String::new() };
        let data = DataDir::new(world.relay_data());
        let pairing = data.pairing().unwrap();
        let now = (tocyn_relay::system_clock())();
        let epoch = pairing.schedule().epoch_at(now).unwrap();
        let key = pairing.key_pair(epoch);
        let mut tokens = Vec::new();
        while tokens.len() <= MESSAGES {
            let (request, pending) = batch(key.public(), 100);
            let issuer = Issuer::new(pairing.key_pair(epoch));
            let response = issuer.evaluate_batch(&request, &mut UnwrapErr(SysRng));
            tokens.extend(pending.finalize(&response).unwrap());
        }
        let cells: Vec<_> = (1..=MESSAGES).map(|n| cell(&format!("message {n}"))).collect();
        let redeemer = Redeemer::new(&pairing, &[epoch]);
        let posts: Vec<_> = tokens
            .iter()
            .zip(&cells)
            .map(|(token, cell)| {
                let message = Message::new(cell.clone().into());
                let token = Authorization::Bearer(token.clone());
                (redeemer.redeem(&token, &message.id()).unwrap(), message)
            })
            .collect();
        let parsed = Database::parse(&database, data.database_path()).unwrap();
        let key = data.log_key(pairing.origin_name()).unwrap().verifier();
        let store = Store::open(&parsed, &pairing, &key, cells[0].len()).await.unwrap();
        for commit in posts.chunks(90) {
            store.spend_and_append(commit, now).await.unwrap();
        }
        store.close().await;
        Self { world, database, tokens, cells }
    }

    /// A copy of it. Gives data folder and database.
    fn copy(&self, name: &str) -> (PathBuf, String) {
        let data = self.world.path().join(name);
        succeed(Command::new("cp").arg("-a").arg(self.world.relay_data()).arg(&data));
        if self.database.is_empty() {
            return (data, String::new());
        }
        let path = data.join("config.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let set = format!("\nfolder = '{}'", data.join("log").display());
        let text = text.replace("\nfolder = \"\"", &set);
        assert!(text.contains(&set));
        std::fs::write(&path, text).unwrap();
        let name = self.database.rsplit('/').find(|part| part.starts_with("test_")).unwrap();
        (data, Postgres::shared().copy_of(name.split('?').next().unwrap()))
    }
}

fn on(command: &mut Command, database: &str) {
    if !database.is_empty() {
        command.args(["--database", database]);
    }
}

/// The steps that were done before it died, or before it was through.
fn seal_up_to(step: usize, data: &Path, database: &str) -> Vec<String> {
    let mut sealer = Command::new(program("sealer"));
    let (step_arg, keep_from) = (step.to_string(), KEEP_FROM.to_string());
    let died = output(sealer.arg(data).args([database, &step_arg, &keep_from]));
    let said = String::from_utf8_lossy(&died.stderr).into_owned();
    assert_eq!(died.status.code(), (step > STEPS).then_some(0), "step {step}: {said}");
    String::from_utf8(died.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// What a relay has after that is what it should have.
async fn check(stopped: &Stopped, steps: &[String], data: &Path, database: &str) {
    let http = http_client();
    // What is not finished stays for a while: another relay may be at work on it.
    for file in std::fs::read_dir(data.join("log")).unwrap().map(Result::unwrap) {
        if file.file_name().to_str().unwrap().starts_with("new-") {
            let file = std::fs::File::options().write(true).open(file.path()).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(700)).unwrap();
        }
    }
    let mut command = serve("tocyn-relay", data, "127.0.0.1:0");
    on(&mut command, database);
    let relay = Service::run(&mut command, data);
    let oldest = if steps.contains(&"Dropped".to_owned()) { 257 } else { 1 };
    let expected: Vec<_> =
        (oldest..).zip(stopped.cells[oldest as usize - 1..].iter().cloned()).collect();
    let get = async |path: &str| http.get(format!("{}{path}", relay.url())).send().await.unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(program("tocyn-relay"));
        on(command.arg("--data").arg(data).args(args), database);
        succeed(&mut command)
    };
    let bundles = || {
        let stats: serde_json::Value =
            serde_json::from_str(&run(&["db", "stats", "--json"])).unwrap();
        stats["bundles"].as_u64().unwrap()
    };
    assert_eq!(read_all(&http, relay.url()).await, expected, "{steps:?}");
    let since = Instant::now();
    while bundles() != 2 - oldest / 257 {
        assert!(since.elapsed() < Duration::from_secs(20), "nothing is sealed: {}", relay.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(read_all(&http, relay.url()).await, expected, "{steps:?}");
    let info: RelayInfo = get("/v1/info").await.json().await.unwrap();
    assert_eq!((info.oldest, info.head), (oldest, MESSAGES as u64));
    assert!(run(&["db", "check"]).contains("no fault found"));
    for bundle in 0..2 {
        let path = format!("tile/entries/00{bundle}");
        let answer = get(&format!("/{path}")).await;
        if bundle < oldest / 257 {
            assert_eq!(answer.status().as_u16(), 410, "{steps:?}");
            assert!(!data.join("log").join(&path).exists(), "{steps:?}");
            continue;
        }
        assert!(answer.headers()["cache-control"].to_str().unwrap().contains("immutable"));
        let mut expected = Vec::new();
        let cells = &stopped.cells[bundle as usize * 256..][..256];
        cells.iter().for_each(|cell| put_entry(&mut expected, cell));
        assert_eq!(answer.content_length(), Some(expected.len() as u64));
        assert!(answer.bytes().await.unwrap() == expected, "{steps:?}");
        assert!(std::fs::read(data.join("log").join(&path)).unwrap() == expected, "{steps:?}");
    }
    let left = std::fs::read_dir(data.join("log")).unwrap();
    let mut left: Vec<_> = left.map(|file| file.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["key", "tile"], "{steps:?}");
    // Old messages are still proven, whether they are kept or not; and the log goes on.
    for (n, status) in [(0, 200), (MESSAGES - 1, 200), (MESSAGES, 201)] {
        let new = cell("the next message");
        let cell = stopped.cells.get(n).unwrap_or(&new);
        let answer =
            post(&http, relay.url(), &bound(&stopped.tokens[n], cell), cell).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{steps:?}");
        let proven: ProvenReceipt = answer.json().await.unwrap();
        assert_eq!(proven.receipt.seq, n as u64 + 1);
        proven.verify(&info.log_key).unwrap();
    }
    assert_eq!(relay.stop().code(), Some(0));
}

async fn every_step(on_postgres: bool) {
    let _turn = crate::heavy().await;
    let stopped = Stopped::new(on_postgres).await;
    for step in 1..=STEPS + 1 {
        let (data, database) = stopped.copy(&format!("killed-{step}"));
        let steps = seal_up_to(step, &data, &database);
        assert_eq!(steps.len(), step.min(STEPS), "{steps:?}");
        check(&stopped, &steps, &data, &database).await;
        if step == STEPS {
            let all = ["Written", "Synced", "Named"].repeat(2).into_iter();
            let all = all.chain(["NamesSynced", "Recorded", "Dropped", "Removed"]);
            assert_eq!(steps, all.collect::<Vec<_>>());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_on_sqlite_nothing_is_missing_or_there_twice() {
    every_step(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_on_postgres_nothing_is_missing_or_there_twice() {
    every_step(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_file_is_named_and_the_operator_may_go_on_without_it() {
    let stopped = Stopped::new(false).await;
    let (data, http) = (stopped.world.relay_data(), http_client());
    seal_up_to(STEPS + 1, &data, "");
    let lost = data.join("log/tile/entries/001");
    std::fs::remove_file(&lost).unwrap();
    let relay = |args: &[&str]| {
        let mut command = Command::new(program("tocyn-relay"));
        let said = output(command.arg("--data").arg(&data).args(args));
        let text = [said.stdout, said.stderr].concat();
        (said.status.code(), String::from_utf8(text).unwrap())
    };
    for args in [&["serve", "--listen", "127.0.0.1:0"][..], &["db", "check"]] {
        let (status, said) = relay(args);
        assert!(status == Some(1) && said.contains(lost.to_str().unwrap()), "{args:?}: {said}");
    }
    assert!(relay(&["serve"]).1.contains("db drop --before 513"));
    let url = Postgres::shared().new_url();
    let (status, said) = relay(&["db", "copy", "--to", &url]);
    assert!(status == Some(1) && said.contains(lost.to_str().unwrap()), "{said}");
    std::fs::write(&lost, "some of it").unwrap();
    let (status, said) = relay(&["db", "drop", "--before", "513"]);
    assert!(!lost.exists(), "the file goes with its messages");
    assert!(status == Some(0) && said.contains("513 to 600 are kept"), "{said}");
    let service = stopped.world.start_relay();
    let expected: Vec<_> = (513..).zip(stopped.cells[512..].iter().cloned()).collect();
    assert_eq!(read_all(&http, service.url()).await, expected);
    assert!(relay(&["db", "check"]).1.contains("no fault found"));
    assert_eq!(service.stop().code(), Some(0));
    let (status, said) = relay(&["db", "copy", "--to", &url]);
    assert!(status == Some(0) && said.contains("88 messages"), "{said}");
}
