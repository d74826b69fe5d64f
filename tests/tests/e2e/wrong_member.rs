//! A member who lies to the others: what it can do, what it cannot, and how they go on.

use getrandom::SysRng;
use rand_core::UnwrapErr;
use std::process::Command;
use tocyn_client::group::cell::CellKeys;
use tocyn_client::group::message::{AuthorKey, Content, Id};
use tocyn_client::group::parts::split;
use tocyn_e2e::bearer::{bound, buy, http_client, post};
use tocyn_e2e::member::{Member, new_group};
use tocyn_e2e::programs::program;
use tocyn_e2e::service::Service;
use tocyn_e2e::world::{World, output, succeed};
use tocyn_protocol::token::Token;

const NOW: u64 = 1_800_000_000;

struct Scene {
    world: World,
    relay: Service,
    ann: Member,
    tokens: Vec<Token>,
}

impl Scene {
    async fn new() -> Self {
        let world = World::default();
        let (issuer, relay) = (world.start_issuer(), world.start_relay());
        let tokens = buy(&http_client(), issuer.url(), &world.voucher(16), 16).await;
        let invite = new_group("friends", issuer.url(), relay.url()).await;
        let ann = Member::join(world.path(), "ann", &invite, relay.url()).await;
        Self { world, relay, ann, tokens }
    }

    /// Posts these parts of a message, by this author.
    async fn post(&mut self, author: &AuthorKey, message: &[u8], parts: &[usize]) {
        let (secret, key) = (&self.ann.invite.secret, &self.ann.invite.log_key);
        let keys = CellKeys::new(secret, key);
        let plaintexts = split(message, author, &secret.id(key), 2048).unwrap();
        for part in parts {
            let cell = keys.seal(&plaintexts[*part], &mut UnwrapErr(SysRng));
            let token = self.tokens.pop().unwrap();
            let http = http_client();
            let answer = post(&http, self.relay.url(), &bound(&token, &cell), &cell).await.unwrap();
            assert_eq!(answer.status().as_u16(), 201);
        }
    }

    fn check(&self, args: &[&str]) -> (Option<i32>, String) {
        let wallet = self.ann.dir().to_str().unwrap();
        let output = output(Command::new(program("tocyn")).args(["--wallet", wallet]).args(args));
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }
}

fn content(name: &str, counter: u64, body: &[u8]) -> Content {
    Content {
        counter,
        time: NOW,
        name: name.to_owned(),
        parents: Vec::new(),
        checkpoint: None,
        body: body.to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_never_was_is_named_and_can_be_dismissed() {
    let mut scene = Scene::new().await;
    let eve = AuthorKey::generate(&mut UnwrapErr(SysRng));
    let lie = Content { parents: vec![Id([9; 32])], ..content("Eve", 1 << 40, b"lies") };
    scene.post(&eve, &lie.encode(eve.author()), &[0]).await;
    scene.ann.sync(NOW).await.unwrap();
    let (code, said) = scene.check(&["check"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("Eve (") && said.contains("says it was there"), "{said}");
    assert_eq!(scene.check(&["check", "--accept"]).0, Some(0));
    let (code, said) = scene.check(&["check"]);
    assert_eq!(code, Some(0), "{said}");
    // Not for what comes after.
    let lie = Content { parents: vec![Id([8; 32])], ..content("Eve", (1 << 40) + 2, b"more") };
    scene.post(&eve, &lie.encode(eve.author()), &[0]).await;
    scene.ann.sync(NOW).await.unwrap();
    assert_eq!(scene.check(&["check"]).0, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_member_can_spoil_the_parts_of_another() {
    let mut scene = Scene::new().await;
    let rng = &mut UnwrapErr(SysRng);
    let (eve, bob) = (AuthorKey::generate(rng), AuthorKey::generate(rng));
    let message = content("Bob", 1, &[b'x'; 4000]).encode(bob.author());
    // Eve has seen the first part, and posts the others as hers before Bob posts his.
    scene.post(&bob, &message, &[0]).await;
    scene.post(&eve, &message, &[0, 1, 2]).await;
    scene.post(&bob, &message, &[1, 2]).await;
    scene.ann.sync(NOW).await.unwrap();
    let messages = scene.ann.messages().await;
    assert_eq!(messages.len(), 1);
    assert_eq!((messages[0].author, messages[0].body.len()), (bob.author(), 4000));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_counted_and_what_is_newer_is_kept() {
    let mut scene = Scene::new().await;
    let eve = AuthorKey::generate(&mut UnwrapErr(SysRng));
    for name in ["\u{1b}[2J", &"x".repeat(65)] {
        scene.post(&eve, &content(name, 1, b"hi").encode(eve.author()), &[0]).await;
    }
    scene.post(&eve, b"\x01 no message", &[0]).await;
    scene.ann.sync(NOW).await.unwrap();
    assert_eq!(scene.ann.health().await.spoiled, 3);
    let mut newer = content("Eve", 1, b"hi").encode(eve.author());
    newer[0] = 2;
    scene.post(&eve, &newer, &[0]).await;
    scene.ann.sync(NOW).await.unwrap();
    scene.ann.sync(NOW).await.unwrap();
    let health = scene.ann.health().await;
    assert_eq!((health.spoiled, health.members.len()), (3, 0));
    assert!(scene.check(&["check"]).1.contains("newer version"));
    let wallet = scene.ann.dir().to_str().unwrap().to_owned();
    succeed(
        Command::new(program("tocyn")).args(["--wallet", &wallet, "group", "leave", "friends"]),
    );
    drop(scene.world);
}
