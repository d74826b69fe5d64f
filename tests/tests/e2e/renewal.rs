//! A new pairing: tokens of the old one are void, and nothing else is lost.

use std::process::{Command, Stdio};

use tocyn_e2e::bearer::{batch, bound, buy, cell, current_key, http_client, post, read_all, send};
use tocyn_e2e::programs::program;
use tocyn_e2e::service::{Service, serve};
use tocyn_e2e::tap::{Hold, Tap};
use tocyn_e2e::world::{World, output, succeed};

/// Renews the pairing of stopped services and starts them again, at the same addresses.
fn renew(world: &World, issuer: Service, relay: Service) -> (Service, Service) {
    let (at_issuer, at_relay) = (issuer.address().to_owned(), relay.address().to_owned());
    assert_eq!((issuer.stop().code(), relay.stop().code()), (Some(0), Some(0)));
    world.issuer_command(&["pairing", "renew"]);
    world.relay_command(&["pairing", "install", world.pairing_file().to_str().unwrap()]);
    (
        Service::start_at("tocyn-issuer", &world.issuer_data(), &at_issuer),
        Service::start_at("tocyn-relay", &world.relay_data(), &at_relay),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_goes_on_after_a_renewal() {
    let world = World::default();
    let (issuer, relay) = (world.start_issuer(), world.start_relay());
    let (issuer_tap, relay_tap) =
        (Tap::new(issuer.address()).await, Tap::new(relay.address()).await);
    let voucher = world.voucher(160);
    let request = || {
        let urls = ["request", "--issuer", issuer_tap.url(), "--relay", relay_tap.url()];
        world.tocyn(&[&urls[..], &["--voucher", &voucher, "--count", "16"]].concat())
    };
    let post = |args: &[&str]| {
        let mut command = world.tocyn(&[&["post", "--relay", relay_tap.url()][..], args].concat());
        command.stdin(Stdio::null());
        command
    };
    let message = world.path().join("message");
    std::fs::write(&message, "kept").unwrap();
    let kill_when_held = async |mut command: Command, tap: &Tap| {
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        tap.something_held().await;
        child.kill().unwrap();
        child.wait().unwrap();
        tap.hold(Hold::Nothing);
    };
    // 16 tokens in the wallet, one of them reserved, and 16 charged but not received.
    succeed(&mut request());
    relay_tap.hold(Hold::Request("POST /v1/messages"));
    kill_when_held(post(&[message.to_str().unwrap()]), &relay_tap).await;
    issuer_tap.hold(Hold::Answer("POST /token-request"));
    kill_when_held(request(), &issuer_tap).await;
    assert_eq!(world.vouchers_left(), 128);

    let (_issuer, relay) = renew(&world, issuer, relay);
    let refused = output(&mut post(&["--resume"]));
    assert_eq!(refused.status.code(), Some(1), "its token is void, but the message is kept");
    // The renewal is shown with its times, and nothing is bought until the person accepts it.
    let refused = output(&mut request());
    assert_eq!(refused.status.code(), Some(1));
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert!(stderr.contains("a renewal that began at 20"), "{stderr}");
    assert!(stderr.contains("`tocyn relay accept relay.example`"), "{stderr}");
    assert_eq!(world.vouchers_left(), 128);
    let accepted = succeed(&mut world.tocyn(&["relay", "accept", "relay.example"]));
    assert!(accepted.contains("31 tokens from before it were void"), "{accepted}");
    let bought = succeed(&mut request());
    assert!(bought.contains("16 unspent"), "void ones do not count: {bought}");
    succeed(&mut post(&["--resume", "--again"]));
    assert_eq!(read_all(&http_client(), relay.url()).await, [(1, cell("kept"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pairing_that_was_replaced_does_not_come_back() {
    let world = World::default();
    let old = world.path().join("old.toml");
    std::fs::copy(world.pairing_file(), &old).unwrap();
    let (issuer, relay) = (world.start_issuer(), world.start_relay());
    let (_issuer, relay) = renew(&world, issuer, relay);
    relay.stop();
    let mut install = Command::new(program("tocyn-relay"));
    install.arg("--data").arg(world.relay_data()).args(["pairing", "install"]).arg(&old);
    let refused = output(&mut install);
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert!(stderr.contains("this pairing was replaced before"), "{stderr}");
    // Nor where somebody has copied it.
    std::fs::copy(&old, world.relay_data().join("pairing.toml")).unwrap();
    let refused = output(&mut serve("tocyn-relay", &world.relay_data(), "127.0.0.1:0"));
    assert_eq!(refused.status.code(), Some(1));
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert!(stderr.contains("the pairing was replaced"), "{stderr}");
    world.relay_command(&["pairing", "install", world.pairing_file().to_str().unwrap()]);
    drop(world.start_relay());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pairing_of_another_relay_is_refused_and_empties_nothing() {
    let (world, other) = (World::default(), World::default());
    let (issuer, relay, http) = (world.start_issuer(), world.start_relay(), http_client());
    let tokens = buy(&http, issuer.url(), &world.voucher(16), 16).await;
    let pay = async |relay: &Service, text: &str| {
        let cell = cell(text);
        let sent = post(&http, relay.url(), &bound(&tokens[0], &cell), &cell).await;
        sent.unwrap().status().as_u16()
    };
    assert_eq!(pay(&relay, "once").await, 201);
    assert_eq!(relay.stop().code(), Some(0));
    // As somebody would copy it by mistake.
    let file = world.relay_data().join("pairing.toml");
    let own = std::fs::read_to_string(&file).unwrap();
    let foreign = std::fs::read_to_string(other.pairing_file()).unwrap();
    std::fs::write(&file, foreign.replace("relay.example", "other.example")).unwrap();
    let mut serve = serve("tocyn-relay", &world.relay_data(), "127.0.0.1:0");
    let refused = output(serve.stdin(Stdio::null()));
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("of relay relay.example") && stderr.contains("other.example"));
    std::fs::write(&file, own).unwrap();
    assert_eq!(pay(&world.start_relay(), "twice").await, 409, "what was spent is spent");
}

/// A pairing that is refused at the start has changed nothing: what was spent stays spent.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_refused_empties_nothing() {
    let world = World::default();
    let (issuer, relay, http) = (world.start_issuer(), world.start_relay(), http_client());
    let tokens = buy(&http, issuer.url(), &world.voucher(16), 16).await;
    let pay = async |relay: &Service, text: &str| {
        let cell = cell(text);
        let sent = post(&http, relay.url(), &bound(&tokens[0], &cell), &cell).await;
        sent.unwrap().status().as_u16()
    };
    assert_eq!(pay(&relay, "once").await, 201);
    assert_eq!(relay.stop().code(), Some(0));
    let (file, key) = (world.relay_data().join("pairing.toml"), world.relay_data().join("log.key"));
    let (own, own_key) = (std::fs::read(&file).unwrap(), std::fs::read(&key).unwrap());
    let refused = |says: &[&str]| {
        let mut serve = serve("tocyn-relay", &world.relay_data(), "127.0.0.1:0");
        let refused = output(serve.stdin(Stdio::null()));
        let stderr = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{stderr}");
        says.iter().for_each(|says| assert!(stderr.contains(says), "{stderr}"));
    };
    // An issuer whose clock is set back makes a pairing that begins before the old one.
    let back = world.path().join("back");
    let mut init = Command::new("faketime");
    init.args(["-f", "-2d"]).arg(program("tocyn-issuer")).arg("--data").arg(&back).arg("init");
    init.args(["--issuer-name", "issuer.example", "--origin-name", "relay.example"]);
    succeed(&mut init);
    let install = |file: &std::path::Path| {
        std::fs::copy(file, world.relay_data().join("pairing.toml")).unwrap();
    };
    install(&back.join("pairing.toml"));
    refused(&["began at", "clients refuse to go back", "clock"]);
    let mut doctor = Command::new(program("tocyn-relay"));
    let doctor = output(doctor.arg("--data").arg(world.relay_data()).arg("doctor"));
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(said.contains("`serve` refuses this pairing"), "{said}");
    // A good pairing, and a port that another program has.
    issuer.stop();
    world.issuer_command(&["pairing", "renew"]);
    install(&world.pairing_file());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut beside =
        serve("tocyn-relay", &world.relay_data(), &taken.local_addr().unwrap().to_string());
    let stderr = String::from_utf8(output(beside.stdin(Stdio::null())).stderr).unwrap();
    assert!(stderr.contains("cannot listen on"), "{stderr}");
    // The key of another relay, and none at all.
    let other = World::default();
    drop(other.start_relay());
    std::fs::copy(other.relay_data().join("log.key"), &key).unwrap();
    refused(&["is another key, and the log is signed with", "put its key back"]);
    std::fs::remove_file(&key).unwrap();
    refused(&["is not there, and the log is signed with"]);
    std::fs::write(&key, own_key).unwrap();
    std::fs::write(&file, own).unwrap();
    assert_eq!(pay(&world.start_relay(), "twice").await, 409, "what was spent is spent");
}

#[test]
fn a_planned_renewal_that_comes_too_late_is_not_installed() {
    let world = World::default();
    let relay = world.start_relay();
    relay.stop();
    world.issuer_command(&["pairing", "renew", "--planned"]);
    let at = |days: &str| {
        let mut install = Command::new("faketime");
        install.args(["-f", days]).arg(program("tocyn-relay")).arg("--data");
        install.arg(world.relay_data()).args(["pairing", "install"]).arg(world.pairing_file());
        output(&mut install)
    };
    let file = world.relay_data().join("pairing.toml");
    let before = std::fs::read(&file).unwrap();
    // The new keys are those of the next epoch, a week from now.
    let refused = at("+8d");
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("has other keys than statement 0 of keys"), "{stderr}");
    assert!(stderr.contains("clock (20"), "{stderr}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert!(at("+6d").status.success());
    assert_ne!(std::fs::read(&file).unwrap(), before);
    world.start_relay();
}

#[test]
fn a_log_key_that_is_missing_is_not_replaced() {
    let world = World::default();
    drop(world.start_relay());
    let key = world.relay_data().join("log.key");
    let own = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let mut serve = serve("tocyn-relay", &world.relay_data(), "127.0.0.1:0");
    let stderr = String::from_utf8(output(serve.stdin(Stdio::null())).stderr).unwrap();
    assert!(stderr.contains("is not there") && stderr.contains("from a backup"), "{stderr}");
    assert!(!key.exists());
    std::fs::write(&key, own).unwrap();
    world.start_relay();
}

#[test]
fn a_pairing_for_other_names_is_not_installed() {
    let (world, dir) = (World::default(), tempfile::tempdir().unwrap());
    let mut init = Command::new(program("tocyn-issuer"));
    init.arg("--data").arg(dir.path()).args(["init", "--issuer-name", "a", "--origin-name", "b"]);
    succeed(&mut init);
    let mut install = Command::new(program("tocyn-relay"));
    install.arg("--data").arg(world.relay_data()).args(["pairing", "install"]);
    let refused = output(install.arg(dir.path().join("pairing.toml")));
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("for relay b and issuer a"));
}

#[test]
fn a_running_issuer_keeps_its_pairing() {
    let world = World::default();
    let _issuer = world.start_issuer();
    let mut renew = Command::new(program("tocyn-issuer"));
    let refused = output(renew.arg("--data").arg(world.issuer_data()).args(["pairing", "renew"]));
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("in use by another"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_charged_is_answered_after_the_limit_was_lowered() {
    let world = World::default();
    let (issuer, http, voucher) = (world.start_issuer(), http_client(), world.voucher(200));
    let key = current_key(&http, issuer.url()).await;
    let (charged, fresh) = (batch(&key, 64).0.to_bytes(), batch(&key, 64).0.to_bytes());
    let ask = async |url: &str, body: &[u8]| {
        send(&http, url, &voucher, body.to_vec()).await.unwrap().status().as_u16()
    };
    assert_eq!(ask(issuer.url(), &charged).await, 200);
    issuer.stop();
    let config = world.issuer_data().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("max_batch = 512", "max_batch = 16")).unwrap();
    let issuer = world.start_issuer();
    assert_eq!(ask(issuer.url(), &charged).await, 200);
    assert_eq!(ask(issuer.url(), &fresh).await, 422);
    assert_eq!(world.vouchers_left(), 200 - 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_signs_with_another_key_is_sent_nothing() {
    let world = World::default();
    let (issuer, relay) = (world.start_issuer(), world.start_relay());
    let voucher = world.voucher(16);
    let urls = ["--issuer", issuer.url(), "--relay", relay.url()];
    succeed(
        &mut world
            .tocyn(&[&["request"][..], &urls, &["--voucher", &voucher, "--count", "16"]].concat()),
    );
    let message = world.path().join("message");
    std::fs::write(&message, "a message").unwrap();
    let args = ["post", "--relay", relay.url(), message.to_str().unwrap()];
    succeed(world.tocyn(&args).stdin(Stdio::null()));
    // A new log under the same name and address, as one that somebody else put there.
    let (url, address) = (relay.url().to_owned(), relay.address().to_owned());
    assert_eq!(relay.stop().code(), Some(0));
    for file in ["relay.sqlite", "log.key", "log.size"] {
        std::fs::remove_file(world.relay_data().join(file)).unwrap();
    }
    std::fs::remove_dir_all(world.relay_data().join("log")).unwrap();
    let relay = Service::start_at("tocyn-relay", &world.relay_data(), &address);
    assert_eq!(relay.url(), url);
    let refused = output(
        world.tocyn(&["post", "--relay", &url, message.to_str().unwrap()]).stdin(Stdio::null()),
    );
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("had relay.example+") && said.contains("ask its operator"), "{said}");
    assert!(read_all(&http_client(), relay.url()).await.is_empty());
}
