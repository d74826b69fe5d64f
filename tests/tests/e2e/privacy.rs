//! What cannot be tied together: the bytes of issuance and the bytes of a post. And what no log
//! may hold.

use std::collections::HashSet;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use tocyn_e2e::bearer::{cell, draw, http_client, post};
use tocyn_e2e::programs::program;
use tocyn_e2e::raw_http::{exchange, request};
use tocyn_e2e::tap::Tap;
use tocyn_e2e::world::{World, succeed};

/// Strings of so many bytes are looked for.
const WINDOW: usize = 8;

/// What one user sent and received.
struct Traffic {
    issuance: Vec<u8>,
    posting: Vec<u8>,
}

/// Every user's traffic goes through the same taps; a user's part is what was added.
struct Taps {
    issuer: Tap,
    relay: Tap,
}

impl Taps {
    /// A new wallet buys tokens, then posts.
    fn user(&self, world: &World, name: &str) -> Traffic {
        let wallet = world.path().join(name);
        let message = world.path().join("message");
        std::fs::write(&message, format!("This is what {name} says, and nobody else.")).unwrap();
        let run = |args: &[&str]| {
            let mut command = Command::new(program("tocyn"));
            succeed(command.arg("--wallet").arg(&wallet).args(args));
        };
        let voucher = world.voucher(16);
        let before = (self.issuer.bytes().len(), self.relay.bytes().len());
        let urls = ["request", "--issuer", self.issuer.url(), "--relay", self.relay.url()];
        run(&[&urls[..], &["--voucher", &voucher, "--count", "16"]].concat());
        run(&["post", "--relay", self.relay.url(), message.to_str().unwrap()]);
        Traffic {
            issuance: decoded(&self.issuer.bytes()[before.0..]),
            posting: decoded(&self.relay.bytes()[before.1..]),
        }
    }
}

/// The bytes without their dates, and with what their header parameters mean in base64url.
fn decoded(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let mut out: Vec<u8> = Vec::new();
    for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.starts_with(b"date: ")) {
        out.extend_from_slice(line);
    }
    for value in text.split('"').filter(|value| value.len() > WINDOW) {
        out.extend(URL_SAFE_NO_PAD.decode(value.trim_end_matches('=')).unwrap_or_default());
    }
    out
}

fn windows(bytes: &[u8]) -> HashSet<&[u8]> {
    bytes.windows(WINDOW).collect()
}

/// Strings in both that no other user's traffic has.
fn shared<'a>(one: &'a [u8], two: &'a [u8], others: &[&Traffic]) -> Vec<String> {
    let mut shared: HashSet<&[u8]> = windows(one).intersection(&windows(two)).copied().collect();
    for other in others {
        for public in windows(&other.issuance).union(&windows(&other.posting)) {
            shared.remove(*public);
        }
    }
    shared.into_iter().map(|window| String::from_utf8_lossy(window).into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn issuance_and_posting_of_one_user_share_nothing_that_is_not_public() {
    let world = World::default();
    let (issuer, relay) = (world.start_issuer(), world.start_relay());
    let taps =
        Taps { issuer: Tap::new(issuer.address()).await, relay: Tap::new(relay.address()).await };
    let [anna, bela, cleo] = ["anna", "bela", "cleo"].map(|name| taps.user(&world, name));
    let others = [&bela, &cleo];
    assert!(anna.issuance.len() > 1000 && anna.posting.len() > 2048, "the taps saw it all");
    assert_eq!(shared(&anna.issuance, &anna.posting, &others), [""; 0]);
    // The same look finds what does belong to one user: it is able to fail.
    assert!(!shared(&anna.posting, &anna.posting, &others).is_empty());
    assert!(!shared(&anna.issuance, &anna.issuance, &others).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_at_debug_level_hold_no_voucher_no_nonce_and_no_address() {
    let world = World::default();
    let (issuer, relay) = (world.start_issuer(), world.start_relay());
    let voucher = world.voucher(16);
    let urls = ["request", "--issuer", issuer.url(), "--relay", relay.url()];
    succeed(&mut world.tocyn(&[&urls[..], &["--voucher", &voucher, "--count", "16"]].concat()));

    // One post that is stored, its repeat, one that is refused; and broken requests.
    let message = cell("a message");
    let token = draw(&world.wallet(), relay.url(), &message).await;
    for (status, text) in [(201, "a message"), (200, "a message"), (409, "another")] {
        let answer = post(&http_client(), relay.url(), &token.header_value(), &cell(text)).await;
        assert_eq!(answer.unwrap().status().as_u16(), status);
    }
    let bearer = format!("Bearer {voucher}");
    for service in [&issuer, &relay] {
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "text/plain")];
        exchange(service.address(), &request("POST", "/token-request", &headers, b"?"));
        exchange(service.address(), &request("POST", "/v1/messages", &headers, b"?"));
    }

    let hash = tocyn_issuer::voucher::VoucherCode::parse(&voucher).unwrap().hash();
    let nonce = token.nonce();
    let secrets = [
        voucher.trim_start_matches("tv1-").to_owned(),
        hex::encode(hash),
        hex::encode(nonce),
        STANDARD.encode(nonce),
        URL_SAFE.encode(nonce),
        URL_SAFE_NO_PAD.encode(token.to_bytes()),
        format!("{nonce:?}"),
        "127.0.0.1".to_owned(),
    ];
    for (name, log) in [("issuer", issuer.log()), ("relay", relay.log())] {
        assert!(log.contains("DEBUG"), "{name}: the log is at debug level");
        for secret in &secrets {
            // Long ones are looked for by their beginnings too.
            let beginning = &secret[..secret.len().min(12)];
            assert!(!log.to_lowercase().contains(&beginning.to_lowercase()), "{name}: {secret}");
        }
    }
}
