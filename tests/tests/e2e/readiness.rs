//! `/readyz` follows what posts and requests meet, and comes back by itself. Log lines that nobody
//! can read stop nothing.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tocyn_e2e::bearer::{bound, buy, cell, http_client, post};
use tocyn_e2e::programs::program;
use tocyn_e2e::service::{Service, serve};
use tocyn_e2e::world::World;
use tocyn_protocol::token::Token;
use tocyn_test_postgres::Postgres;

/// A service notices within its idle time of 5 seconds, and a write is given up after 5 more.
const PATIENCE: Duration = Duration::from_secs(30);

async fn status(http: &reqwest::Client, url: &str) -> u16 {
    http.get(format!("{url}/readyz")).send().await.unwrap().status().as_u16()
}

/// Waits until `/readyz` says so.
pub(crate) async fn becomes(http: &reqwest::Client, url: &str, expected: u16) {
    let since = Instant::now();
    loop {
        let found = status(http, url).await;
        if found == expected {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "/readyz is {found}, not {expected}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn send(http: &reqwest::Client, url: &str, token: &Token, text: &str) -> u16 {
    let cell = cell(text);
    post(http, url, &bound(token, &cell), &cell).await.unwrap().status().as_u16()
}

/// How a log line fails.
#[derive(Clone, Copy, Debug)]
enum Broken {
    FullDisk,
    ClosedPipe,
}

/// A service whose log lines all fail, and there are many of them.
fn start_unheard(name: &str, data: &Path, broken: Broken) -> Service {
    let script = match broken {
        Broken::FullDisk => "exec \"$@\" 2>/dev/full",
        // The one who reads opens it, and ends.
        Broken::ClosedPipe => {
            "rm -f unread && mkfifo unread && { true <unread & } && exec \"$@\" 2>unread"
        }
    };
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(program(name)).current_dir(data).stdin(Stdio::null());
    command.arg("--data").arg(data).args(["serve", "--listen", "127.0.0.1:0"]);
    Service::run(command.env("RUST_LOG", "debug"), data)
}

/// Holds a database as another process may: nothing is written until this is dropped.
async fn hold(file: &Path) -> sqlx::SqliteConnection {
    let mut held = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut held).await.unwrap();
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_that_cannot_be_written_stop_nothing() {
    for broken in [Broken::FullDisk, Broken::ClosedPipe] {
        let (world, http) = (World::default(), http_client());
        let issuer = start_unheard("tocyn-issuer", &world.issuer_data(), broken);
        let relay = start_unheard("tocyn-relay", &world.relay_data(), broken);
        let voucher = world.voucher(64);
        let tokens = buy(&http, issuer.url(), &voucher, 16).await;
        assert_eq!(send(&http, relay.url(), &tokens[0], "before").await, 201, "{broken:?}");

        // Both log an error for what they cannot write.
        let at_relay = hold(&world.relay_data().join("relay.sqlite")).await;
        assert_eq!(send(&http, relay.url(), &tokens[1], "meanwhile").await, 503, "{broken:?}");
        assert_eq!(status(&http, relay.url()).await, 503, "{broken:?}");
        at_relay.close().await.unwrap();
        let at_issuer = hold(&world.issuer_data().join("issuer.sqlite")).await;
        becomes(&http, issuer.url(), 503).await;
        at_issuer.close().await.unwrap();

        becomes(&http, relay.url(), 200).await;
        becomes(&http, issuer.url(), 200).await;
        assert_eq!(send(&http, relay.url(), &tokens[1], "meanwhile").await, 201, "{broken:?}");
        let more = buy(&http, issuer.url(), &voucher, 16).await;
        assert_eq!(send(&http, relay.url(), &more[0], "after").await, 201, "{broken:?}");
        assert_eq!(relay.stop().code(), Some(0), "{broken:?}");
        assert_eq!(issuer.stop().code(), Some(0), "{broken:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_not_write_is_not_ready() {
    let (world, http, server) = (World::default(), http_client(), Postgres::shared());
    for (name, data) in [("tocyn-issuer", world.issuer_data()), ("tocyn-relay", world.relay_data())]
    {
        let database = server.new_database();
        let mut command = serve(name, &data, "127.0.0.1:0");
        let service = Service::run(command.args(["--database", &server.url(&database)]), &data);
        becomes(&http, service.url(), 200).await;
        let set = |to: &str| {
            let connections = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = '{database}' AND pid <> pg_backend_pid()"
            );
            let change =
                format!("ALTER DATABASE {database} SET default_transaction_read_only = {to}");
            server.sql("postgres", &change);
            server.sql("postgres", &connections);
        };
        // It can be read, by everyone and all the time, and no request comes.
        set("on");
        becomes(&http, service.url(), 503).await;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(status(&http, service.url()).await, 503, "{name}: {}", service.log());
        }
        set("off");
        becomes(&http, service.url(), 200).await;
        assert_eq!(service.stop().code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_does_not_end_holds_no_stop_up() {
    let (world, http) = (World::default(), http_client());
    let issuer = world.start_issuer();
    let token = buy(&http, issuer.url(), &world.voucher(16), 16).await.remove(0);
    let mut command = serve("tocyn-relay", &world.relay_data(), "127.0.0.1:0");
    command.env("TOCYN_RELAY__LIMITS__BODY_TIMEOUT", "1h");
    command.env("TOCYN_RELAY__LIMITS__DRAIN_TIMEOUT", "1s");
    let mut relay = Service::run(&mut command, &world.relay_data());
    let mut half = std::net::TcpStream::connect(relay.address()).unwrap();
    let authorization = bound(&token, &cell("half"));
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: relay\r\nauthorization: {authorization}\r\n\
         content-type: application/octet-stream\r\ncontent-length: 2048\r\n\r\nhalf"
    );
    half.write_all(head.as_bytes()).unwrap();
    half.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    assert!(half.read(&mut [0]).is_err(), "it waits for the rest");
    relay.signal_stop();
    let since = Instant::now();
    while relay.is_alive() {
        assert!(since.elapsed() < PATIENCE, "it does not end: {}", relay.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
