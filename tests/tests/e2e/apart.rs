//! No two secrets share a connection: a recording proxy in Tor's place sees all that a member sends
//! while it buys, posts, is refused, resumes, and talks to groups.

use std::collections::BTreeSet;
use std::process::Stdio;

use tocyn_e2e::service::Service;
use tocyn_e2e::socks::{Connection, SocksProxy};
use tocyn_e2e::world::{ISSUER_ADDRESS, RELAY_ADDRESS, World, output};
use tocyn_e2e::wrong_issuer::WrongIssuer;
use tocyn_e2e::wrong_relay::{Rule, WrongRelay};

struct Scene {
    world: World,
    issuer: WrongIssuer,
    relay: WrongRelay,
    proxy: SocksProxy,
    _real: [Service; 2],
}

async fn scene() -> Scene {
    let world = World::default();
    let (real_issuer, real_relay) = (world.start_issuer(), world.start_relay());
    let issuer = WrongIssuer::start(real_issuer.url()).await;
    let relay = WrongRelay::start(&real_relay, &world.relay_data(), 1).await;
    let at = |url: &str| url.strip_prefix("http://").unwrap().to_owned();
    let (at_issuer, at_relay) = (at(issuer.url()), at(relay.url(0)));
    let names = [("issuer.example", &*at_issuer), ("relay.example", &*at_relay)];
    let proxy = SocksProxy::start(names).await;
    Scene { world, issuer, relay, proxy, _real: [real_issuer, real_relay] }
}

impl Scene {
    fn run(&self, args: &[&str], status: i32) {
        let through = ["--proxy", self.proxy.url()];
        let mut command = self.world.tocyn(&[&through[..], args].concat());
        let output = output(command.stdin(Stdio::null()));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
    }

    fn buy(&self, count: &str, status: i32) {
        let voucher = self.world.voucher(64);
        let args = ["request", "--relay", RELAY_ADDRESS, "--voucher", &voucher, "--count", count];
        self.run(&args, status);
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.world.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// What one connection has carried.
#[derive(Debug, Default)]
struct Carried {
    paths: BTreeSet<String>,
    vouchers: BTreeSet<String>,
    /// Tokens of posts, by their public part.
    tokens: BTreeSet<String>,
    others: Vec<String>,
}

fn carried(connection: &Connection) -> Carried {
    let mut carried = Carried::default();
    for line in connection.sent().split("\r\n") {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            // A body may end right before the next request.
            [.., "HTTP/1.1"] => {
                let path = words[words.len() - 2].to_owned();
                carried.paths.insert(path);
            }
            ["authorization:", "Bearer", code] => drop(carried.vouchers.insert(code.to_owned())),
            ["authorization:", "TocynBound", input, _] => {
                carried.tokens.insert(input.to_owned());
            }
            [name, ..] if ["cookie:", "if-none-match:", "if-modified-since:"].contains(&name) => {
                carried.others.push(line.to_owned());
            }
            _ => {}
        }
    }
    carried
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_secrets_share_a_connection() {
    let scene = scene().await;
    // Two vouchers: the first one's answer does not come, and is asked for later.
    scene.issuer.set_busy(true);
    scene.buy("16", 1);
    scene.issuer.set_busy(false);
    scene.buy("32", 0);
    scene.run(&["request", "--relay", RELAY_ADDRESS, "--resume"], 0);
    // Posts that are refused, and sent again.
    scene.relay.set(Rule::RefuseFirst);
    for text in ["one", "two"] {
        let file = scene.file("message", text);
        scene.run(&["post", "--relay", RELAY_ADDRESS, &file], 1);
    }
    scene.run(&["post", "--relay", RELAY_ADDRESS, "--resume"], 0);
    // Groups: a short message, a long one that waits, and both resumed beside a third.
    scene.relay.set(Rule::Publish);
    let create = ["group", "create", "friends", "--relay", RELAY_ADDRESS];
    scene.run(&[&create[..], &["--issuer", ISSUER_ADDRESS]].concat(), 0);
    scene.run(&["send", "friends", "short"], 0);
    scene.relay.set(Rule::RefuseFirst);
    let long = scene.file("long", &"long ".repeat(800));
    scene.run(&["send", "friends", "--file", &long], 1);
    scene.relay.set(Rule::Publish);
    scene.run(&["send", "friends", "another"], 1); // saved, and not sent beside the one that waits
    scene.run(&["send", "friends", "--resume"], 0);
    scene.run(&["sync"], 0);

    let connections = scene.proxy.take_connections();
    let all: Vec<Carried> = connections.iter().map(carried).collect();
    let (mut vouchers, mut tokens) = (BTreeSet::new(), BTreeSet::new());
    for one in &all {
        assert!(one.others.is_empty(), "{one:?}");
        assert!(one.vouchers.len() <= 1, "two vouchers: {one:?}");
        vouchers.extend(one.vouchers.iter().cloned());
        tokens.extend(one.tokens.iter().cloned());
        let has_secret = !one.vouchers.is_empty() || !one.tokens.is_empty();
        let names_a_place = one.paths.iter().any(|path| path.contains("after="));
        let is_look = one.paths.contains("/v1/info")
            || one.paths.iter().any(|path| path.ends_with("-issuer-directory"));
        if is_look {
            assert_eq!(one.paths.len(), 1, "a look shares its connection: {one:?}");
            assert!(!has_secret && !names_a_place, "{one:?}");
        }
        if has_secret {
            assert_eq!(one.paths.len(), 1, "a secret shares its connection: {one:?}");
        }
    }
    assert_eq!(vouchers.len(), 2, "both were shown");
    // Two public messages, each refused once; short 1, long 3 cells, another 1.
    assert_eq!(tokens.len(), 2 + 1 + 3 + 1);
    // Cells of one message share a connection, and no others do.
    let posts: Vec<usize> =
        all.iter().map(|one| one.tokens.len()).filter(|tokens| *tokens > 0).collect();
    assert_eq!(posts.iter().filter(|tokens| **tokens == 3).count(), 1, "{posts:?}");
    assert!(posts.iter().all(|tokens| [1, 3].contains(tokens)), "{posts:?}");
    let credentials: BTreeSet<_> = connections.iter().map(|one| &one.credentials).collect();
    let hosts: BTreeSet<_> = connections.iter().map(|one| (&one.host, &one.credentials)).collect();
    assert_eq!(credentials.len(), hosts.len(), "credentials belong to one host");
}
