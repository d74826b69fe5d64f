//! Relays on PostgreSQL: moving there, several of them with one log, and stopping one.

use std::process::Command;
use std::time::Duration;

use tocyn_e2e::bearer::{bound, buy, cell, http_client, post, read_all};
use tocyn_e2e::programs::program;
use tocyn_e2e::service::{Service, serve};
use tocyn_e2e::world::{World, output};
use tocyn_protocol::relay::PostReceipt;
use tocyn_protocol::token::Token;
use tocyn_test_postgres::Postgres;

/// A relay of this world, on a database.
fn relay_on(world: &World, url: &str) -> Service {
    let mut command = serve("tocyn-relay", &world.relay_data(), "127.0.0.1:0");
    Service::run(command.args(["--database", url]), &world.relay_data())
}

async fn tokens(world: &World, http: &reqwest::Client) -> Vec<Token> {
    let issuer = world.start_issuer();
    buy(http, issuer.url(), &world.voucher(64), 64).await
}

/// Posts, and gives status and receipt.
async fn post_text(
    http: &reqwest::Client,
    relay: &Service,
    token: &Token,
    text: &str,
) -> (u16, Option<PostReceipt>) {
    let cell = cell(text);
    let answer = post(http, relay.url(), &bound(token, &cell), &cell).await.unwrap();
    (answer.status().as_u16(), answer.json().await.ok())
}

/// A command of the relay that fails; gives what it says.
fn refused(world: &World, args: &[&str]) -> String {
    let mut command = Command::new(program("tocyn-relay"));
    let output = output(command.arg("--data").arg(world.relay_data()).args(args));
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Sets `database.url` in the relay's config.
fn configure(world: &World, url: &str) {
    let path = world.relay_data().join("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches("\nurl = \"\"").count(), 1);
    std::fs::write(&path, text.replace("\nurl = \"\"", &format!("\nurl = \"{url}\""))).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_outgrows_its_file_moves_and_goes_on_in_several_processes() {
    let (world, http) = (World::default(), http_client());
    let tokens = tokens(&world, &http).await;
    let relay = world.start_relay();
    for (n, token) in tokens[..10].iter().enumerate() {
        assert_eq!(post_text(&http, &relay, token, &format!("before {n}")).await.0, 201);
    }
    let url = Postgres::shared().new_url();
    assert!(refused(&world, &["db", "copy", "--to", &url]).contains("in use by another"));
    assert_eq!(relay.stop().code(), Some(0));

    let left = refused(&world, &["serve", "--database", &url]);
    assert!(left.contains("relay.sqlite") && left.contains("db copy --to URL"), "{left}");
    let not_there = refused(&world, &["db", "copy", "--to", &Postgres::shared().url("nowhere")]);
    assert!(not_there.contains("nowhere"), "{not_there}");
    assert!(refused(&world, &["db", "copy", "--to", "sqlite:///x"]).contains("postgres://"));
    let moved = world.relay_command(&["db", "copy", "--to", &url]);
    assert!(moved.contains("10 messages and 10 spent tokens"), "{moved}");
    assert!(refused(&world, &["serve"]).contains("moved to PostgreSQL"));

    configure(&world, &url);
    assert!(world.relay_command(&["db", "migrate"]).contains("up to date"));
    assert!(world.relay_command(&["db", "check"]).contains("no fault found"));
    // Two processes on one folder: nothing else was changed.
    let (one, two) = (world.start_relay(), world.start_relay());
    let again = post_text(&http, &one, &tokens[3], "before 3").await;
    assert_eq!((again.0, again.1.unwrap().seq), (200, 4));
    assert_eq!(post_text(&http, &two, &tokens[3], "another").await.0, 409);
    for (n, token) in (10..).zip(&tokens[10..20]) {
        let relay = if n % 2 == 0 { &one } else { &two };
        let posted = post_text(&http, relay, token, &format!("after {n}")).await;
        assert_eq!((posted.0, posted.1.unwrap().seq), (201, n + 1));
    }
    let log = read_all(&http, one.url()).await;
    assert_eq!(log, read_all(&http, two.url()).await);
    assert_eq!((log.len(), &log[19].1), (20, &cell("after 19")));

    let stats = world.relay_command(&["db", "stats", "--json"]);
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    assert_eq!((&stats["head"], &stats["oldest"]), (&20.into(), &1.into()));
    assert_eq!(stats["spent"][0]["tokens"], 20);
    assert!(stats["bytes"].as_u64().unwrap() > 20 * 2048);

    // What both use stays as it is while either runs.
    let install = ["pairing", "install", world.pairing_file().to_str().unwrap()].map(str::to_owned);
    let install: Vec<&str> = install.iter().map(String::as_str).collect();
    assert!(refused(&world, &install).contains("in use by another"));
    assert_eq!(one.stop().code(), Some(0));
    assert!(refused(&world, &install).contains("in use by another"));
    assert_eq!(two.stop().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_and_named() {
    let (world, http) = (World::default(), http_client());
    let tokens = tokens(&world, &http).await;
    let name = Postgres::shared().new_database();
    let url = Postgres::shared().url(&name);
    let relay = relay_on(&world, &url);
    for (n, token) in tokens.iter().take(3).enumerate() {
        assert_eq!(post_text(&http, &relay, token, &n.to_string()).await.0, 201);
    }
    let check = ["--database", &url, "db", "check"];
    assert!(world.relay_command(&check).contains("no fault found"), "beside a running relay");
    Postgres::shared().sql(&name, "DELETE FROM blocks WHERE first_seq = 2");
    let mut command = Command::new(program("tocyn-relay"));
    let found = output(command.arg("--data").arg(world.relay_data()).args(check));
    assert_eq!(found.status.code(), Some(1));
    let text = String::from_utf8(found.stdout).unwrap();
    assert!(
        text.contains("does not begin where the one before it ends") && text.contains("sequence 3"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_at_one_relay_gets_what_is_posted_at_another() {
    let (world, http) = (World::default(), http_client());
    let tokens = tokens(&world, &http).await;
    let url = Postgres::shared().new_url();
    let (here, there) = (relay_on(&world, &url), relay_on(&world, &url));
    let follow = format!("{}/v1/messages?follow=true", here.url());
    let mut stream = http.get(follow).send().await.unwrap();
    let mut read = Vec::new();
    for (n, token) in tokens.iter().take(20).enumerate() {
        assert_eq!(post_text(&http, &there, token, &format!("{n}")).await.0, 201);
        while read.len() < (n + 1) * (8 + 2048) {
            read.extend_from_slice(&stream.chunk().await.unwrap().expect("it goes on"));
        }
    }
    for (n, frame) in read.chunks(8 + 2048).enumerate() {
        assert_eq!(frame[..8], (n as u64 + 1).to_be_bytes());
        assert_eq!(frame[8..], cell(&n.to_string()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_leaves_says_so_before_it_takes_no_more() {
    let (world, http) = (World::default(), http_client());
    let tokens = tokens(&world, &http).await;
    let path = world.relay_data().join("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("leave_time = \"0s\"", "leave_time = \"3s\"")).unwrap();
    let relay = world.start_relay();
    let ready = async || {
        let answer = http.get(format!("{}/readyz", relay.url())).send().await;
        answer.map(|answer| answer.status().as_u16()).ok()
    };
    assert_eq!(ready().await, Some(200));
    relay.signal_stop();
    while ready().await == Some(200) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(ready().await, Some(503));
    // Whoever has not heard of it yet is served on a new connection.
    let posted = post_text(&http_client(), &relay, &tokens[0], "late").await;
    assert_eq!(posted.0, 201);
    let status = tokio::task::spawn_blocking(move || relay.stop().code()).await.unwrap();
    assert_eq!(status, Some(0));
}

#[test]
fn a_url_of_a_database_is_refused_without_showing_its_password() {
    let world = World::default();
    for url in ["postgres://me:hunter2@:/x", "mysql://me:hunter2@host/x"] {
        let said = refused(&world, &["serve", "--database", url]);
        assert!(said.contains("database.url") && !said.contains("hunter2"), "{said}");
    }
    let nobody = refused(&world, &["serve", "--database", "postgres://me:hunter2@127.0.0.1:1/x"]);
    assert!(nobody.contains("127.0.0.1:1") && !nobody.contains("hunter2"), "{nobody}");
}
