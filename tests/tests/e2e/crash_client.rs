//! The client dies at each state of the wallet; the next run ends what was begun.

use std::process::{Child, Command, Stdio};

use tocyn_e2e::bearer::{cell, http_client, read_all};
use tocyn_e2e::service::Service;
use tocyn_e2e::tap::{Hold, Tap};
use tocyn_e2e::world::{World, succeed};

/// Services behind taps, and a voucher.
struct Scene {
    world: World,
    issuer: Tap,
    relay: Tap,
    voucher: String,
    services: [Service; 2],
}

impl Scene {
    async fn new() -> Self {
        let world = World::default();
        let services = [world.start_issuer(), world.start_relay()];
        let issuer = Tap::new(services[0].address()).await;
        let relay = Tap::new(services[1].address()).await;
        let voucher = world.voucher(1000);
        Self { world, issuer, relay, voucher, services }
    }

    fn request(&self, count: &str) -> Command {
        let urls = ["request", "--issuer", self.issuer.url(), "--relay", self.relay.url()];
        self.world.tocyn(&[&urls[..], &["--voucher", &self.voucher, "--count", count]].concat())
    }

    fn post(&self, text: &str) -> Command {
        let file = self.world.path().join("message");
        std::fs::write(&file, text).unwrap();
        self.world.tocyn(&["post", "--relay", self.relay.url(), file.to_str().unwrap()])
    }

    fn resume(&self) -> String {
        succeed(&mut self.world.tocyn(&["post", "--relay", self.relay.url(), "--resume", "--json"]))
    }

    fn numbers(&self) -> [u64; 4] {
        let balance = self.world.balance();
        ["pending", "unspent", "reserved", "spent"].map(|state| balance[state].as_u64().unwrap())
    }

    async fn messages(&self) -> Vec<(u64, Vec<u8>)> {
        read_all(&http_client(), self.services[1].url()).await
    }
}

/// Runs the client until the tap holds its traffic back, then kills it.
async fn kill_when_held(command: &mut Command, tap: &Tap) {
    let mut client: Child = command.stderr(Stdio::null()).spawn().unwrap();
    tap.something_held().await;
    client.kill().unwrap();
    client.wait().unwrap();
    tap.hold(Hold::Nothing);
}

const TOKEN_REQUEST: &str = "POST /token-request";
const POST: &str = "POST /v1/messages";

#[tokio::test(flavor = "multi_thread")]
async fn pending_and_not_yet_asked_for() {
    let scene = Scene::new().await;
    scene.issuer.hold(Hold::Request(TOKEN_REQUEST));
    kill_when_held(&mut scene.request("16"), &scene.issuer).await;
    assert_eq!(scene.numbers(), [16, 0, 0, 0]);
    assert_eq!(scene.world.vouchers_left(), 1000);
    succeed(&mut scene.request("16"));
    assert_eq!(scene.numbers(), [0, 16, 0, 0]);
    assert_eq!(scene.world.vouchers_left(), 984);
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_and_charged() {
    let scene = Scene::new().await;
    scene.issuer.hold(Hold::Answer(TOKEN_REQUEST));
    kill_when_held(&mut scene.request("256"), &scene.issuer).await;
    assert_eq!(scene.numbers(), [256, 0, 0, 0]);
    assert_eq!(scene.world.vouchers_left(), 744);
    succeed(&mut scene.request("256"));
    assert_eq!(scene.numbers(), [0, 256, 0, 0]);
    assert_eq!(scene.world.vouchers_left(), 744, "it was paid for before");
}

#[tokio::test(flavor = "multi_thread")]
async fn some_unspent_and_some_pending() {
    let scene = Scene::new().await;
    scene.issuer.hold_after(1, Hold::Answer(TOKEN_REQUEST));
    kill_when_held(&mut scene.request("80"), &scene.issuer).await;
    assert_eq!(scene.numbers(), [16, 64, 0, 0]);
    assert_eq!(scene.world.vouchers_left(), 920);
    succeed(&mut scene.request("16"));
    assert_eq!(scene.numbers(), [0, 80, 0, 0]);
    assert_eq!(scene.world.vouchers_left(), 920);
}

#[tokio::test(flavor = "multi_thread")]
async fn reserved_and_not_yet_posted() {
    let scene = Scene::new().await;
    succeed(&mut scene.request("16"));
    scene.relay.hold(Hold::Request(POST));
    kill_when_held(&mut scene.post("not lost"), &scene.relay).await;
    assert_eq!(scene.numbers(), [0, 15, 1, 0]);
    assert_eq!(scene.messages().await, []);
    assert!(scene.resume().contains("\"seq\":1"));
    assert_eq!(scene.numbers(), [0, 15, 0, 1]);
    assert_eq!(scene.messages().await, [(1, cell("not lost"))]);
    assert_eq!(scene.resume(), "", "nothing is left to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn reserved_and_stored_at_the_relay() {
    let scene = Scene::new().await;
    succeed(&mut scene.request("16"));
    scene.relay.hold(Hold::Answer(POST));
    kill_when_held(&mut scene.post("not twice"), &scene.relay).await;
    assert_eq!(scene.numbers(), [0, 15, 1, 0]);
    assert_eq!(scene.messages().await, [(1, cell("not twice"))]);
    assert!(scene.resume().contains("\"seq\":1"));
    assert_eq!(scene.numbers(), [0, 15, 0, 1]);
    assert_eq!(scene.messages().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_post_leaves_the_one_that_was_interrupted_alone() {
    let scene = Scene::new().await;
    succeed(&mut scene.request("16"));
    scene.relay.hold(Hold::Request(POST));
    kill_when_held(&mut scene.post("first"), &scene.relay).await;
    // Sent together, the relay would know both for one author's.
    succeed(&mut scene.post("second"));
    assert!(scene.messages().await == [(1, cell("second"))]);
    assert_eq!(scene.numbers(), [0, 14, 1, 1]);
    assert!(scene.resume().contains("\"seq\":2"));
    assert!(scene.messages().await == [(1, cell("second")), (2, cell("first"))]);
    assert_eq!(scene.numbers(), [0, 14, 0, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_midst_of_a_long_message_to_a_group() {
    let scene = Scene::new().await;
    let urls = ["--relay", scene.relay.url(), "--issuer", scene.issuer.url()];
    succeed(&mut scene.world.tocyn(&[&["group", "create", "friends"], &urls[..]].concat()));
    succeed(&mut scene.request("64"));
    let file = scene.world.path().join("long");
    std::fs::write(&file, "word ".repeat(1300)).unwrap();
    let send = ["send", "friends", "--file", file.to_str().unwrap()];
    // Killed before and after the relay has the first, a middle and the last of four cells.
    let mut cells = 0;
    for sent in [0, 1, 3] {
        for hold in [Hold::Request(POST), Hold::Answer(POST)] {
            scene.relay.hold_after(sent, hold);
            kill_when_held(&mut scene.world.tocyn(&send), &scene.relay).await;
            succeed(&mut scene.world.tocyn(&["send", "friends", "--resume"]));
            cells += 4;
            assert_eq!(scene.messages().await.len(), cells, "{hold:?} after {sent}");
            assert_eq!(scene.numbers(), [0, 64 - cells as u64, 0, cells as u64]);
        }
    }
    let synced = succeed(&mut scene.world.tocyn(&["sync"]));
    assert!(synced.contains("6 new messages in 24 cells"), "{synced}");
    assert!(synced.ends_with("friends: 6 messages of 1 members\n"), "nothing is amiss: {synced}");
}
