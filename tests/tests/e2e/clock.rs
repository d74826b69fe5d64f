//! A relay that is started while the machine's clock is months ahead, and again once it is right.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tocyn_e2e::bearer::{bound, buy, cell, http_client, post};
use tocyn_e2e::programs::program;
use tocyn_e2e::service::Service;
use tocyn_e2e::world::World;
use tocyn_relay::store::Store;

/// In seconds: the default retention, and a day.
const AHEAD: u64 = 91 * 86_400;

/// A relay by the machine's clock and so many seconds more.
fn start(world: &World, ahead: u64) -> Service {
    let (clock, data) = (world.path().join("clock"), world.relay_data());
    std::fs::write(&clock, ahead.to_string()).unwrap();
    let mut command = Command::new(program("clocked"));
    command.arg("relay").arg("--data").arg(&data).args(["serve", "--listen", "127.0.0.1:0"]);
    command.env("TOCYN_TEST_CLOCK", &clock).env("RUST_LOG", "info").stdin(Stdio::null());
    Service::run(&mut command, &data)
}

/// Waits for a round of retention, which is made at the start.
async fn wait_for_round(world: &World) {
    let file = world.relay_data().join("relay.sqlite");
    let store = Store::look_at(&file.as_path().into()).await.unwrap();
    let start = Instant::now();
    while store.settled_at().await.unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(20), "there was none");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_starts_by_a_clock_that_is_ahead_loses_nothing() {
    let (world, http) = (World::default(), http_client());
    let issuer = world.start_issuer();
    let tokens = buy(&http, issuer.url(), &world.voucher(16), 16).await;
    let relay = start(&world, 0);
    let first = cell("first");
    let status = async |relay: &Service, token: usize, cell: &[u8]| {
        let answer = post(&http, relay.url(), &bound(&tokens[token], cell), cell).await;
        answer.unwrap().status().as_u16()
    };
    assert_eq!(status(&relay, 0, &first).await, 201);
    wait_for_round(&world).await;
    assert_eq!(relay.stop().code(), Some(0));
    let relay = start(&world, AHEAD);
    // A round that deletes nothing leaves nothing to wait for.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(relay.stop().code(), Some(0));
    let relay = start(&world, 0);
    assert_eq!(status(&relay, 0, &first).await, 200, "its receipt is there");
    assert_eq!(status(&relay, 0, &cell("another")).await, 409);
    assert_eq!(status(&relay, 1, &cell("second")).await, 201);
    let read = http.get(format!("{}/v1/messages?after=0", relay.url())).send().await.unwrap();
    assert_eq!(read.bytes().await.unwrap().len(), 2 * (8 + first.len()));
}
