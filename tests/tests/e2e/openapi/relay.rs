//! The relay's document.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use tocyn_e2e::bearer::{bound, buy, cell, http_client};
use tocyn_e2e::raw_http::{exchange, head, request};
use tocyn_e2e::world::World;
use tocyn_protocol::token::Token;

use super::{
    Document, fill_disk, has_no_other_path, leaves, of_a_client, on_small_disk, saw_all, serve,
    takes_the_methods, without_table,
};

const POST: (&str, &str) = ("POST", "/v1/messages");
const READ: (&str, &str) = ("GET", "/v1/messages");
const TILE: (&str, &str) = ("GET", "/tile/{path}");
const OCTETS: (&str, &str) = ("Content-Type", "application/octet-stream");

async fn tokens(world: &World, count: usize) -> Vec<Token> {
    let issuer = world.start_issuer();
    buy(&http_client(), issuer.url(), &world.voucher(count as u64), count).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_relay_answers_is_described() {
    let world = World::default();
    let tokens = tokens(&world, 16).await;
    let settings = [
        ("TOCYN_RELAY__RETENTION__MAX_BYTES", "2048"),
        ("TOCYN_RELAY__LIMITS__BODY_TIMEOUT", "1s"),
        ("TOCYN_RELAY__LIMITS__MAX_REPEATS", "3"),
    ];
    let relay = serve("tocyn-relay", &world.relay_data(), &settings);
    let address = relay.address();
    let mut document = Document::of(address);
    takes_the_methods(&mut document, address, true);
    has_no_other_path(&mut document, address);

    let message = cell("a message");
    let genuine = tokens[1].to_bytes().to_vec();
    let flipped = |at: usize| {
        let mut bytes = genuine.clone();
        bytes[at] ^= 1;
        format!("PrivateToken token=\"{}\"", URL_SAFE.encode(bytes))
    };
    let good = bound(&tokens[0], &message);
    let other = cell("another message");
    let spent = bound(&tokens[0], &other);
    let elsewhere = bound(&tokens[1], &other);
    let (octets, text) = (OCTETS.1, "text/plain");
    for (authorization, media_type, body, expected) in [
        (good.clone(), octets, &message[..], "201"),
        (good.clone(), octets, &message, "200"),
        (tokens[2].header_value().to_owned(), octets, &other, "201"),
        (spent, octets, &other, "token-spent"),
        (String::new(), octets, &message, "no-token"),
        ("PrivateToken token=x".to_owned(), octets, &message, "malformed-token"),
        (flipped(40), octets, &message, "wrong-challenge"),
        (flipped(70), octets, &message, "unknown-key"),
        (flipped(161), octets, &message, "bad-authenticator"),
        (elsewhere, octets, &message, "bad-binding"),
        (good.clone(), text, &message, "media-type"),
        (good.clone(), octets, &message[1..], "cell-size"),
        (good.clone(), octets, &[&message[..], b"x"].concat(), "body-too-large"),
    ] {
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", media_type)];
        let answer = document.ask(address, POST, POST.1, &headers, body);
        match expected.parse::<u16>() {
            Ok(status) => assert_eq!(answer.status, status, "{answer:?}"),
            Err(_) => assert_eq!(answer.problem().urn, format!("urn:tocyn:problem:{expected}")),
        }
        if answer.status == 401 {
            assert!(answer.header("www-authenticate").is_some(), "{answer:?}");
        }
    }
    let headers = [("Authorization", good.as_str()), OCTETS, ("Content-Length", "2048")];
    let stalled = exchange(address, &head(POST.0, POST.1, &headers));
    assert_eq!(stalled.status, 408);
    document.check(POST.0, POST.1, &stalled);
    // The third repeat of a spent token is answered, the fourth is not.
    for status in [200, 429] {
        let headers = [("Authorization", good.as_str()), OCTETS];
        let answer = document.ask(address, POST, POST.1, &headers, &message);
        assert_eq!(answer.status, status, "{answer:?}");
    }

    for path in ["/v1/info", "/checkpoint", "/healthz", "/readyz", READ.1] {
        assert_eq!(document.ask(address, ("GET", path), path, &[], b"").status, 200, "{path}");
    }
    for (asked, target, status) in [
        (READ, "/v1/messages?after=2&limit=1", 200),
        (READ, "/v1/messages?after=x", 400),
        (TILE, "/tile/0/000.p/2", 200),
        (TILE, "/tile/entries/000.p/2", 200),
        (TILE, "/tile/0/001", 404),
    ] {
        let answer = document.ask(address, asked, target, &[], b"");
        assert_eq!(answer.status, status, "{target}: {answer:?}");
    }

    // Retention runs at the start, and leaves the newer of both.
    assert_eq!(relay.stop().code(), Some(0));
    let relay = serve("tocyn-relay", &world.relay_data(), &settings);
    let address = relay.address();
    while document.ask(address, READ, "/v1/messages?after=0", &[], b"").status != 410 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let tile = document.ask(address, TILE, "/tile/entries/000.p/2", &[], b"");
    assert_eq!(tile.status, 410);
    without_table(&world.relay_data().join("relay.sqlite"), "log").await;
    let answer = document.ask(address, ("GET", "/readyz"), "/readyz", &[], b"");
    assert_eq!(answer.problem().urn, "urn:tocyn:problem:database-down");

    behind_tor(&mut document);
    a_full_relay(&mut document).await;
    saw_all(document, "relay");
}

/// A relay that tells its clients apart, and stops.
fn behind_tor(document: &mut Document) {
    let world = World::default();
    let settings = [
        ("TOCYN_RELAY__PROXY_PROTOCOL", "true"),
        ("TOCYN_RELAY__LIMITS__MAX_REFUSALS_PER_CLIENT", "1"),
        ("TOCYN_RELAY__LIMITS__LEAVE_TIME", "60s"),
    ];
    let relay = serve("tocyn-relay", &world.relay_data(), &settings);
    let ask = |bytes| exchange(relay.address(), &of_a_client(bytes));
    for expected in [401, 429] {
        let answer = ask(request(POST.0, POST.1, &[OCTETS], b""));
        assert_eq!(answer.status, expected, "{answer:?}");
        document.check(POST.0, POST.1, &answer);
    }
    leaves(&relay, || {
        let answer = ask(request("GET", "/readyz", &[], b""));
        document.check("GET", "/readyz", &answer);
        answer.status
    });
}

async fn a_full_relay(document: &mut Document) {
    let world = World::default();
    let tokens = tokens(&world, 512).await;
    let relay = on_small_disk(&world, "tocyn-relay", &world.relay_data());
    fill_disk(&world, &relay);
    // A few still fit into what the database has of the disk.
    let answer = tokens.iter().find_map(|token| {
        let message = cell(&hex::encode(token.nonce()));
        let headers = [OCTETS, ("Authorization", &bound(token, &message))];
        let answer = document.ask(relay.address(), POST, POST.1, &headers, &message);
        (answer.status != 201).then_some(answer)
    });
    assert_eq!(answer.unwrap().problem().urn, "urn:tocyn:problem:storage-full");
}
