//! A relay whose database has lost what was signed is refused as a restored one is, and goes on with
//! a newer pairing only.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::StatusCode;
use tocyn_e2e::bearer::{bound, buy, cell, http_client, post, read_all};
use tocyn_e2e::programs::program;
use tocyn_e2e::service::{Service, serve};
use tocyn_e2e::world::{World, output, succeed};
use tocyn_protocol::token::Token;
use tocyn_test_postgres::Postgres;

/// So many messages are sealed in one file.
const BUNDLE: usize = 256;
/// How long the size may be behind that was signed.
const LAG: Duration = Duration::from_secs(2);

struct Pair {
    world: World,
    /// The relay's, if it is not in its folder.
    database: Option<String>,
    tokens: Vec<Token>,
}

impl Pair {
    async fn new(database: Option<String>, tokens: usize) -> Self {
        let world = World::default();
        let (issuer, voucher) = (world.start_issuer(), world.voucher(tokens as u64));
        let mut bought = Vec::new();
        while bought.len() < tokens {
            let count = (tokens - bought.len()).min(512);
            bought.extend(buy(&http_client(), issuer.url(), &voucher, count).await);
        }
        assert_eq!(issuer.stop().code(), Some(0));
        Self { world, database, tokens: bought }
    }

    fn serve(&self) -> Command {
        let mut command = serve("tocyn-relay", &self.world.relay_data(), "127.0.0.1:0");
        command.args(self.database.iter().flat_map(|url| ["--database", url]));
        command
    }

    fn start(&self) -> Service {
        Service::run(&mut self.serve(), &self.world.relay_data())
    }

    /// The relay does not start; returns what it says.
    fn refused(&self) -> String {
        failed(&mut self.serve())
    }

    /// Posts with these tokens, each its own message.
    async fn post(&self, relay: &Service, tokens: std::ops::Range<usize>) -> Vec<StatusCode> {
        let mut answers = Vec::new();
        for n in tokens {
            answers.push(send(relay, &self.tokens[n], &format!("message {n}")).await);
        }
        answers
    }

    fn install(&self, file: &Path) -> Result<(), String> {
        let mut command = command("tocyn-relay", &self.world.relay_data());
        command.args(self.database.iter().flat_map(|url| ["--database", url]));
        let installed = output(command.args(["pairing", "install"]).arg(file));
        match installed.status.code() {
            Some(0) => Ok(()),
            _ => Err(String::from_utf8(installed.stderr).unwrap()),
        }
    }

    fn doctor(&self) -> String {
        let mut command = command("tocyn-relay", &self.world.relay_data());
        command.args(self.database.iter().flat_map(|url| ["--database", url]));
        String::from_utf8(output(command.arg("doctor")).stdout).unwrap()
    }

    fn signed(&self) -> String {
        std::fs::read_to_string(self.world.relay_data().join("log.size")).unwrap()
    }
}

fn command(name: &str, data: &Path) -> Command {
    let mut command = Command::new(program(name));
    command.arg("--data").arg(data).stdin(Stdio::null());
    command
}

fn failed(command: &mut Command) -> String {
    let refused = output(command);
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{text}");
    text
}

async fn send(relay: &Service, token: &Token, text: &str) -> StatusCode {
    let cell = cell(text);
    post(&http_client(), relay.url(), &bound(token, &cell), &cell).await.unwrap().status()
}

/// For either database, of which 20 messages are lost.
async fn goes_on_with_a_newer_pairing_only(pair: Pair) {
    let said = pair.refused();
    assert!(said.contains("signed a log of 40 messages, but the database has only 20"), "{said}");
    assert!(pair.doctor().contains("signed a log of 40 messages"), "{}", pair.doctor());
    let old = pair.world.path().join("old.toml");
    std::fs::copy(pair.world.pairing_file(), &old).unwrap();
    assert!(pair.install(&old).unwrap_err().contains("signed a log of 40"));
    pair.world.issuer_command(&["pairing", "renew"]);
    pair.install(&pair.world.pairing_file()).unwrap();
    let relay = pair.start();
    assert_eq!(read_all(&http_client(), relay.url()).await.len(), 20);
    let refused = pair.post(&relay, 0..1).await;
    assert_eq!(refused, [StatusCode::UNAUTHORIZED], "its tokens are of before");
    assert_eq!(relay.stop().code(), Some(0));
    assert!(pair.signed().starts_with("00000000000000000020 "), "{}", pair.signed());
    assert!(pair.install(&old).unwrap_err().contains("replaced before"));
    assert_eq!(pair.start().stop().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_before_is_refused() {
    let pair = Pair::new(None, 40).await;
    let data = pair.world.relay_data();
    let (file, kept) = (data.join("relay.sqlite"), data.join("kept"));
    let relay = pair.start();
    assert!(pair.post(&relay, 0..20).await.iter().all(|status| *status == 201));
    assert_eq!(relay.stop().code(), Some(0));
    std::fs::copy(&file, &kept).unwrap();
    let relay = pair.start();
    assert!(pair.post(&relay, 20..40).await.iter().all(|status| *status == 201));
    tokio::time::sleep(LAG).await;
    assert!(pair.signed().starts_with("00000000000000000040 "), "{}", pair.signed());
    relay.kill();

    // Without the log that a crash leaves beside it, which is still to be copied back.
    let wal = data.join("relay.sqlite-wal");
    let aside = data.join("aside");
    std::fs::rename(&wal, &aside).unwrap();
    let whole = std::fs::read(&file).unwrap();
    let said = pair.refused();
    assert!(said.contains("signed a log of 40") && said.contains("-wal"), "{said}");
    std::fs::write(&file, whole).unwrap();
    std::fs::rename(&aside, &wal).unwrap();
    let relay = pair.start();
    assert!(pair.post(&relay, 0..40).await.iter().all(|status| *status == 200), "all are there");
    assert_eq!(relay.stop().code(), Some(0));

    let whole = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let said = pair.refused();
    assert!(said.contains("there is nothing") && !file.exists(), "{said}");
    std::fs::write(&file, whole).unwrap();
    assert_eq!(pair.start().stop().code(), Some(0), "the right one is back");
    std::fs::copy(&kept, &file).unwrap();
    goes_on_with_a_newer_pairing_only(pair).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_before_is_refused() {
    let server = Postgres::shared();
    let name = server.new_database();
    let mut pair = Pair::new(Some(server.url(&name)), 40).await;
    let relay = pair.start();
    assert!(pair.post(&relay, 0..20).await.iter().all(|status| *status == 201));
    assert_eq!(relay.stop().code(), Some(0));
    let kept = format!("{name}_kept");
    server.sql("postgres", &format!("CREATE DATABASE {kept} TEMPLATE {name}"));
    let relay = pair.start();
    assert!(pair.post(&relay, 20..40).await.iter().all(|status| *status == 201));
    assert_eq!(relay.stop().code(), Some(0));
    pair.database = Some(server.url(&kept));
    goes_on_with_a_newer_pairing_only(pair).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_messages_that_the_database_lacks_are_refused_and_kept() {
    let pair = Pair::new(None, BUNDLE + 30).await;
    let data = pair.world.relay_data();
    let (file, kept) = (data.join("relay.sqlite"), data.join("kept"));
    let relay = pair.start();
    pair.post(&relay, 0..20).await;
    assert_eq!(relay.stop().code(), Some(0));
    std::fs::copy(&file, &kept).unwrap();
    let relay = pair.start();
    pair.post(&relay, 20..BUNDLE + 30).await;
    let bundle = data.join("log/tile/entries/000");
    let since = std::time::Instant::now();
    while !bundle.exists() {
        assert!(since.elapsed() < Duration::from_secs(60), "nothing is sealed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(relay.stop().code(), Some(0));
    // As in a copy of the whole folder but for the sealed files, which are on another disk.
    std::fs::copy(&kept, &file).unwrap();
    std::fs::remove_file(data.join("log.size")).unwrap();
    let sealed = std::fs::read(&bundle).unwrap();
    let said = pair.refused();
    assert!(said.contains("signed a log of 256 messages, but the database has only 20"), "{said}");
    pair.world.issuer_command(&["pairing", "renew"]);
    pair.install(&pair.world.pairing_file()).unwrap();
    assert_eq!(pair.start().stop().code(), Some(0));
    assert!(!bundle.exists(), "its place is for what comes now");
    let aside = std::fs::read_dir(data.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let aside: Vec<_> =
        aside.filter(|path| path.to_string_lossy().contains("went-back-")).collect();
    assert_eq!(std::fs::read(aside[0].join("tile/entries/000")).unwrap(), sealed);
    assert_eq!(pair.start().stop().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_relay_with_the_pairing_is_refused() {
    let pair = Pair::new(None, 1).await;
    let second = pair.world.path().join("second");
    let mut init = command("tocyn-relay", &second);
    succeed(init.arg("init").arg("--pairing").arg(pair.world.pairing_file()));
    let relay = pair.start();
    let mut serve = serve("tocyn-relay", &second, "127.0.0.1:0");
    let said = failed(&mut serve);
    assert!(said.contains("another relay on this machine"), "{said}");
    let said = failed(serve.args(["--database", &Postgres::shared().new_url()]));
    assert!(said.contains("another relay on this machine"), "{said}");
    assert!(!second.join("relay.sqlite").exists());
    assert_eq!(relay.stop().code(), Some(0));
    assert_eq!(Service::start("tocyn-relay", &second).stop().code(), Some(0));
}

#[test]
fn a_damaged_size_is_named() {
    let world = World::default();
    drop(world.start_relay());
    let path = world.relay_data().join("log.size");
    std::fs::write(&path, "12\n").unwrap();
    let said = failed(&mut serve("tocyn-relay", &world.relay_data(), "127.0.0.1:0"));
    assert!(said.contains("log.size") && said.contains("remove this file"), "{said}");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(world.start_relay().stop().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_a_copy_at_the_relays_address() {
    let pair = Pair::new(None, 2).await;
    let data = pair.world.relay_data();
    let relay = pair.start();
    let address = format!("http://{}", relay.address());
    assert!(pair.post(&relay, 0..1).await.iter().all(|status| *status == 201));
    pair.world.set_addresses(&[&address], "http://127.0.0.1:1");
    assert!(pair.doctor().contains(&format!("{address}: this log is shown there")));
    // The copy of a machine.
    let copy = pair.world.path().join("copy");
    succeed(Command::new("cp").arg("-a").arg(&data).arg(&copy));
    assert_eq!(relay.stop().code(), Some(0));
    let relay = pair.start();
    assert!(pair.post(&relay, 1..2).await.iter().all(|status| *status == 201));
    assert_eq!(relay.stop().code(), Some(0));
    let at = address.strip_prefix("http://").unwrap();
    let there = Service::start_at("tocyn-relay", &copy, at);
    let said = pair.doctor();
    assert!(said.contains("shows 1 of the 2 messages: a copy of this relay"), "{said}");
    assert_eq!(there.stop().code(), Some(0));
    std::fs::remove_dir_all(&copy).unwrap();
    let mut init = command("tocyn-relay", &copy);
    succeed(init.arg("init").arg("--pairing").arg(pair.world.pairing_file()));
    let there = Service::start_at("tocyn-relay", &copy, at);
    let said = pair.doctor();
    assert!(said.contains("is not signed with log.key"), "{said}");
    assert_eq!(there.stop().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pairing_that_was_served_with_is_refused_though_nothing_was_signed_under_it() {
    let pair = Pair::new(None, 2).await;
    let data = pair.world.relay_data();
    let (file, kept) = (data.join("relay.sqlite"), data.join("kept"));
    let relay = pair.start();
    assert!(pair.post(&relay, 0..1).await.iter().all(|status| *status == 201));
    assert_eq!(relay.stop().code(), Some(0));
    std::fs::copy(&file, &kept).unwrap();
    let relay = pair.start();
    assert!(pair.post(&relay, 1..2).await.iter().all(|status| *status == 201));
    assert_eq!(relay.stop().code(), Some(0));
    let renew = || {
        pair.world.issuer_command(&["pairing", "renew"]);
        pair.install(&pair.world.pairing_file())
    };
    renew().unwrap();
    // Another relay of the log may have taken its tokens.
    assert_eq!(pair.start().stop().code(), Some(0));
    std::fs::copy(&kept, &file).unwrap();
    let said = pair.refused();
    assert!(said.contains("signed a log of 2 messages, but the database has only 1"), "{said}");
    renew().unwrap();
    assert_eq!(pair.start().stop().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_leave_the_log_of_a_running_relay_and_of_another_one_alone() {
    let pair = Pair::new(None, 1).await;
    let relay = pair.start();
    assert!(pair.post(&relay, 0..1).await.iter().all(|status| *status == 201));
    let file = format!("sqlite://{}", pair.world.relay_data().join("relay.sqlite").display());
    // A copy of its folder, and another relay's, led to its database.
    let (copy, other) = (pair.world.path().join("copy"), World::default());
    succeed(Command::new("cp").arg("-a").arg(pair.world.relay_data()).arg(&copy));
    drop(other.start_relay());
    let target = Postgres::shared().new_url();
    for (data, why) in [(&copy, "another relay on this machine"), (&other.relay_data(), "log.key")]
    {
        for args in [&["db", "drop", "--before", "2"][..], &["db", "copy", "--to", &target]] {
            let mut command = command("tocyn-relay", data);
            let said = failed(command.args(["--database", &file]).args(args));
            assert!(said.contains(why), "{args:?}: {said}");
        }
    }
    assert_eq!(pair.post(&relay, 0..1).await, [StatusCode::OK]);
    assert_eq!(read_all(&http_client(), relay.url()).await.len(), 1);
}

#[test]
fn an_issuer_that_was_begun_anew_is_asked_about() {
    let pair = World::default();
    drop(pair.start_relay());
    std::thread::sleep(Duration::from_secs(1)); // a later pairing begins later
    let anew = World::default();
    let install = |flag: &[&str]| {
        let mut command = command("tocyn-relay", &pair.relay_data());
        command.args(["pairing", "install"]).args(flag).arg(anew.pairing_file());
        command
    };
    let said = failed(&mut install(&[]));
    assert!(said.contains("begun anew") && said.contains("--new-issuer"), "{said}");
    drop(pair.start_relay());
    succeed(&mut install(&["--new-issuer"]));
    drop(pair.start_relay());
    let mut back = command("tocyn-relay", &pair.relay_data());
    let said = failed(back.args(["pairing", "install"]).arg(pair.pairing_file()));
    assert!(said.contains("replaced before"), "{said}");
}
