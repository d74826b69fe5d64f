//! `tocyn` as people meet it: exit statuses, and errors that say what to do.

use std::io::Write;
use std::process::{Command, Stdio};

use tocyn_e2e::service::Service;
use tocyn_e2e::socks::SocksProxy;
use tocyn_e2e::world::{World, output, succeed};

struct Scene {
    world: World,
    issuer: Service,
    relay: Service,
}

impl Scene {
    fn new() -> Self {
        let world = World::default();
        // As the proxy of a test knows them.
        world.set_addresses(&["http://relay.onion"], "http://issuer.onion");
        let (issuer, relay) = (world.start_issuer(), world.start_relay());
        Self { world, issuer, relay }
    }

    fn request(&self, voucher: &str, count: &str) -> Command {
        let urls = ["request", "--issuer", self.issuer.url(), "--relay", self.relay.url()];
        self.world.tocyn(&[&urls[..], &["--voucher", voucher, "--count", count]].concat())
    }
}

/// Runs a command with this input; gives status, stdout and stderr.
fn with_input(command: &mut Command, input: &[u8]) -> (Option<i32>, String, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input); // it may refuse before it has read all
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn request_post_and_read_from_start_to_end() {
    let scene = Scene::new();
    let (world, relay) = (&scene.world, scene.relay.url());
    let voucher = world.voucher(112);
    let (code, out, err) = with_input(&mut scene.request("-", "100"), voucher.as_bytes());
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "received 112 tokens; 112 unspent for relay.example\n")
    );
    assert!(err.contains("112"), "it says that it rounds up: {err}");

    let (code, out, err) = with_input(&mut world.tocyn(&["post", "--relay", relay]), b"one\n");
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("posted as number 1, id "), "{out}");
    assert!(err.contains("can read this message"), "{err}");
    let (_, out, _) =
        with_input(&mut world.tocyn(&["--json", "post", "--relay", relay, "-"]), b"two");
    let receipt: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(receipt["seq"], 2);
    let (code, _, err) =
        with_input(&mut world.tocyn(&["post", "--raw", "--relay", relay]), &[9; 2048]);
    assert_eq!(code, Some(0), "{err}");
    assert!(!err.contains("can read"), "a whole cell is the caller's own: {err}");

    let read = |args: &[&str]| {
        succeed(&mut world.tocyn(&[&["read", "--relay", relay][..], args].concat()))
    };
    assert_eq!(
        read(&[]),
        "1\tone\n2\ttwo\n3\t(2048 bytes that are no plain text; see --json or --raw)\n"
    );
    assert_eq!(read(&["--after", "1", "--limit", "1"]), "2\ttwo\n");
    let line: serde_json::Value = serde_json::from_str(&read(&["--json", "--limit", "1"])).unwrap();
    assert_eq!((&line["seq"], &line["text"]), (&1.into(), &"one\n".into()));
    let raw = output(&mut world.tocyn(&["read", "--relay", relay, "--raw", "--after", "2"])).stdout;
    assert_eq!(raw, [9; 2048]);

    let info = succeed(&mut world.tocyn(&["info", relay]));
    assert!(info.contains("relay.example") && info.contains("1 to 3"), "{info}");
    assert_eq!(world.balance()["spent"], 3);
    assert!(succeed(&mut world.tocyn(&["balance"])).contains("109 unspent"));
    let low_water = ["--low-water", "100"];
    let err =
        String::from_utf8(output(scene.request(&voucher, "16").args(low_water)).stderr).unwrap();
    assert!(err.contains("none are bought"), "{err}");
}

#[test]
fn refusals_have_status_1_and_say_what_to_do() {
    let scene = Scene::new();
    let (world, relay) = (&scene.world, scene.relay.url());
    let post = ["post", "--relay", relay];
    let poor = world.voucher(20);
    let other = World::default();
    let other_relay = other.start_relay();
    for (what, mut command, input, expected) in [
        ("no token", world.tocyn(&post), vec![1], "buy some with `tocyn request`"),
        ("no relay", world.tocyn(&["info", "http://127.0.0.1:1"]), vec![], "does not answer"),
        ("an issuer", world.tocyn(&["info", scene.issuer.url()]), vec![], "swapped"),
        ("nothing to say", world.tocyn(&post), vec![], "the message is empty"),
        (
            "no file",
            world.tocyn(&[&post[..], &["nowhere"]].concat()),
            vec![],
            "nowhere: No such file",
        ),
        (
            "no proxy",
            world.tocyn(&["--proxy", "socks5h://127.0.0.1:1", "info", relay]),
            vec![],
            "is the proxy, Tor for one, running?",
        ),
        ("no voucher", scene.request("nonsense", "16"), vec![], "begins with tv1-"),
        ("empty voucher", scene.request("-", "16"), vec![], "the voucher is empty"),
        ("nonsense voucher", scene.request("tv1-abc", "16"), vec![], "refuses"),
        ("poor voucher", scene.request(&poor, "64"), vec![], "4 tokens are left"),
        (
            "beyond the head",
            world.tocyn(&["read", "--relay", relay, "--after", "7"]),
            vec![],
            "newest message is 0",
        ),
        ("too long", world.tocyn(&post), vec![b'x'; 2047], "at most 2046 bytes"),
        (
            "wrong cell",
            world.tocyn(&[&post[..], &["--raw"]].concat()),
            vec![1; 99],
            "exactly 2048 bytes",
        ),
    ] {
        let (code, _, err) = with_input(&mut command, &input);
        assert_eq!(code, Some(1), "{what}: {err}");
        assert!(err.contains(expected), "{what}: {err}");
    }
    assert_eq!(world.balance()["unspent"], 16, "what came before the refusal is kept");
    // Another relay of the same name has another key, and is owed no token.
    let (code, _, err) =
        with_input(&mut world.tocyn(&["post", "--relay", other_relay.url()]), b"x");
    assert_eq!(code, Some(1));
    assert!(err.contains("no token that relay relay.example takes"), "{err}");
    assert_eq!(world.balance()["unspent"], 16);
}

#[test]
fn wrong_usage_has_status_2() {
    let world = World::default();
    for args in [
        &["post"][..],
        &["nothing"],
        &["request", "--count", "0"],
        &["--proxy", "socks5://127.0.0.1:9050", "info", "http://relay"],
        &["post", "--relay", "http://r", "--again"],
        &["info", "ftp://relay"],
        &["info", "relay.example"],
        &["info", "http://user:password@relay.example"],
        &["info", "http://relay.example/?a=b"],
        &["read", "--relay", "http://r", "--after", "-1"],
    ] {
        let output = output(world.tocyn(args).stdin(Stdio::null()));
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
    for help in [&["--help"][..], &["request", "--help"], &["post", "--help"], &["read", "--help"]]
    {
        assert!(succeed(&mut world.tocyn(help)).contains("Usage"), "{help:?}");
    }
}

#[test]
fn one_wallet_serves_one_command_at_a_time() {
    let scene = Scene::new();
    succeed(&mut scene.request(&scene.world.voucher(16), "16"));
    let posts: Vec<_> = (0..8)
        .map(|n| {
            let file = scene.world.path().join(n.to_string());
            std::fs::write(&file, n.to_string()).unwrap();
            let args = ["post", "--relay", scene.relay.url(), file.to_str().unwrap()];
            scene.world.tocyn(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut post in posts {
        assert!(post.wait().unwrap().success());
    }
    assert_eq!(scene.world.balance()["unspent"], 8);
    let read = succeed(&mut scene.world.tocyn(&["read", "--relay", scene.relay.url()]));
    assert_eq!(read.lines().count(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_proxy_each_purpose_has_its_own_credentials_and_names_stay_unresolved() {
    let scene = Scene::new();
    let proxy = SocksProxy::start([
        ("issuer.onion", scene.issuer.address()),
        ("relay.onion", scene.relay.address()),
    ])
    .await;
    let voucher = scene.world.voucher(16);
    let urls = ["request", "--issuer", "http://issuer.onion", "--relay", "http://relay.onion"];
    let request = [&urls[..], &["--voucher", &voucher, "--count", "16"]].concat();
    let run = |args: &[&str], input: &[u8]| {
        let args = [&["--proxy", proxy.url()][..], args].concat();
        let (code, _, err) = with_input(&mut scene.world.tocyn(&args), input);
        assert_eq!(code, Some(0), "{err}");
        proxy.take_connections()
    };
    let bought = tokio::task::block_in_place(|| run(&request, b""));
    let posted =
        tokio::task::block_in_place(|| run(&["post", "--relay", "http://relay.onion"], b"x"));
    let read = tokio::task::block_in_place(|| run(&["read", "--relay", "http://relay.onion"], b""));

    // Directory and token request, three looks at first sight, which ask for the log's checkpoint too;
    // then such a look, the post, and the log's hashes; what the relay says about itself, and the read:
    // each with its own credentials.
    let count = |list: &[tocyn_e2e::socks::Connection], host: &str| {
        list.iter().filter(|connection| connection.host == host).count()
    };
    assert_eq!((count(&bought, "issuer.onion"), count(&bought, "relay.onion")), (2, 6));
    assert_eq!((posted.len(), read.len()), (4, 2));
    let mut credentials: Vec<_> =
        [bought, posted, read].concat().into_iter().map(|c| c.credentials).collect();
    assert_eq!(credentials.len(), 14);
    credentials.sort();
    credentials.dedup();
    assert_eq!(credentials.len(), 14, "no two share a circuit");
}
