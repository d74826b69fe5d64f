//! What the relay does with posts and reads that are wrong: each gets its own problem type, no
//! token is spent, nothing is stored, and it goes on.

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_e2e::bearer::{bound, buy, cell, http_client, read_all};
use tocyn_e2e::raw_http::{Answer, exchange, head, request};
use tocyn_e2e::service::Service;
use tocyn_e2e::world::{ISSUER_NAME, RELAY_NAME, World};
use tocyn_protocol::challenge::{TokenChallenge, parse_www_authenticate};
use tocyn_protocol::issuance::{Issuer, TokenRequest};
use tocyn_protocol::keys::KeyPair;
use tocyn_protocol::redemption::BoundToken;
use tocyn_protocol::relay::{DEFAULT_CELL_BYTES, MessageId};
use tocyn_protocol::token::Token;

const PATH: &str = "/v1/messages";
const OCTETS: (&str, &str) = ("Content-Type", "application/octet-stream");

fn refused(address: &str, name: &str, bytes: &[u8], status: u16, problem_type: &str) -> Answer {
    let answer = exchange(address, bytes);
    assert_eq!(answer.status, status, "{name}: {answer:?}");
    let problem = answer.problem();
    assert_eq!(problem.urn, format!("urn:tocyn:problem:{problem_type}"), "{name}");
    assert!(problem.detail.len() > 10, "{name}: {problem:?} does not say what is wrong");
    answer
}

/// A token that is genuine under `key`, for any names.
fn token_under(key: KeyPair, issuer_name: &str, origin_name: &str) -> Token {
    let rng = &mut UnwrapErr(SysRng);
    let challenge = TokenChallenge::new(issuer_name, None, origin_name).unwrap();
    let (request, pending) = TokenRequest::new(key.public(), &challenge, rng);
    pending.finalize(&Issuer::new(key).evaluate(&request, rng)).unwrap()
}

/// Both services, and tokens.
async fn scene(world: &World) -> (Service, Vec<Token>) {
    let (issuer, http) = (world.start_issuer(), http_client());
    let tokens = buy(&http, issuer.url(), &world.voucher(16), 16).await;
    (world.start_relay(), tokens)
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_are_refused_and_stay_unspent() {
    let world = World::default();
    let (relay, tokens) = scene(&world).await;
    let (address, token, cell) = (relay.address(), &tokens[0], cell("a message"));
    let post = |values: &[&str]| {
        let mut headers = vec![OCTETS];
        headers.extend(values.iter().map(|value| ("Authorization", *value)));
        request("POST", PATH, &headers, &cell)
    };
    let good = bound(token, &cell);
    let bearer = |bytes: &[u8]| format!("PrivateToken token=\"{}\"", URL_SAFE.encode(bytes));
    let bytes = token.to_bytes().to_vec();
    let flipped = |at: usize| {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        bearer(&changed)
    };
    let input = URL_SAFE_NO_PAD.encode(&bytes[..98]);
    let short_binding = format!("TocynBound input=\"{input}\", binding=\"AAAA\"");
    let no_binding = format!("TocynBound input=\"{input}\"");
    let wrong_binding = format!("TocynBound input=\"{input}\", binding=\"{}\"", "A".repeat(43));
    let key = || KeyPair::derive(&[7; 32], b"a key of our own");
    let other_relay = token_under(key(), ISSUER_NAME, "another.relay").header_value();
    let other_issuer = token_under(key(), "another.issuer", RELAY_NAME).header_value();
    let other_key = token_under(key(), ISSUER_NAME, RELAY_NAME).header_value();
    let for_other_relay =
        BoundToken::new(token, "another.relay", &MessageId::of(&cell)).header_value();
    let for_other_message = bound(token, &[0; DEFAULT_CELL_BYTES]);

    for (name, values, problem_type) in [
        ("none", vec![], "no-token"),
        ("empty", vec![""], "no-token"),
        ("another scheme", vec!["Basic dXNlcjpwYXNz"], "no-token"),
        ("twice", vec![good.as_str(), good.as_str()], "malformed-token"),
        ("no parameters", vec!["PrivateToken"], "malformed-token"),
        ("no base64", vec!["PrivateToken token=\"!!!\""], "malformed-token"),
        ("short", vec![&bearer(&bytes[..161])], "malformed-token"),
        ("trailing byte", vec![&bearer(&[&bytes[..], &[0]].concat())], "malformed-token"),
        ("another token type", vec![&flipped(1)], "malformed-token"),
        ("short binding", vec![&short_binding], "malformed-token"),
        ("no binding", vec![&no_binding], "malformed-token"),
        ("unfinished quote", vec!["PrivateToken token=\"abc"], "malformed-token"),
        ("another relay", vec![&other_relay], "wrong-challenge"),
        ("another issuer", vec![&other_issuer], "wrong-challenge"),
        ("challenge flipped", vec![&flipped(40)], "wrong-challenge"),
        ("another key", vec![&other_key], "unknown-key"),
        ("key id flipped", vec![&flipped(70)], "unknown-key"),
        ("nonce flipped", vec![&flipped(2)], "bad-authenticator"),
        ("authenticator flipped", vec![&flipped(161)], "bad-authenticator"),
        ("bound to another relay", vec![&for_other_relay], "bad-binding"),
        ("bound to another message", vec![&for_other_message], "bad-binding"),
        ("binding of zeros", vec![&wrong_binding], "bad-binding"),
    ] {
        let answer = refused(address, name, &post(&values), 401, problem_type);
        let challenge = answer.header("www-authenticate").expect("it says which token to bring");
        let challenge = &parse_www_authenticate(challenge).unwrap()[0].challenge;
        let expected = TokenChallenge::new(ISSUER_NAME, None, RELAY_NAME).unwrap();
        assert_eq!(*challenge, expected, "{name}");
    }
    assert_eq!(read_all(&http_client(), relay.url()).await, []);
    // The very token that all of them misused still pays.
    assert_eq!(exchange(address, &post(&[&good])).status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bodies_are_refused_and_cost_no_token() {
    let world = World::default();
    let config = world.relay_data().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("body_timeout = \"30s\"", "body_timeout = \"1s\""))
        .unwrap();
    let (mut relay, tokens) = scene(&world).await;
    let address = relay.address().to_owned();
    let cell = cell("a message");
    let authorization = bound(&tokens[0], &cell);
    let paid = ("Authorization", authorization.as_str());
    let post = |body: &[u8]| request("POST", PATH, &[OCTETS, paid], body);

    for (name, body, status, problem_type) in [
        ("empty", vec![], 422, "cell-size"),
        ("one byte short", cell[1..].to_vec(), 422, "cell-size"),
        ("one byte long", [&cell[..], &[0]].concat(), 413, "body-too-large"),
        ("very long", vec![0; 1 << 20], 413, "body-too-large"),
        ("another cell", vec![0; DEFAULT_CELL_BYTES], 401, "bad-binding"),
    ] {
        let answer = refused(&address, name, &post(&body), status, problem_type);
        if status != 401 {
            assert_eq!(answer.problem().limit, Some(DEFAULT_CELL_BYTES as u64), "{name}");
        }
    }
    let text = request("POST", PATH, &[("Content-Type", "text/plain"), paid], &cell);
    refused(&address, "media type", &text, 415, "media-type");
    refused(&address, "none", &request("POST", PATH, &[paid], &cell), 415, "media-type");
    refused(
        &address,
        "two",
        &request("POST", PATH, &[OCTETS, OCTETS, paid], &cell),
        415,
        "media-type",
    );

    let stalled =
        [head("POST", PATH, &[OCTETS, paid, ("Content-Length", "2048")]), vec![0; 9]].concat();
    refused(&address, "stalled", &stalled, 408, "body-incomplete");
    let chunked = head("POST", PATH, &[OCTETS, paid, ("Transfer-Encoding", "chunked")]);
    let endless = [&chunked[..], b"400\r\n", &[7; 1024], b"\r\n"].concat();
    refused(&address, "chunks that stop", &endless, 408, "body-incomplete");
    let chunk = [&b"800\r\n"[..], &[7; 2048], b"\r\n"].concat();
    let too_long = [&chunked[..], &chunk, &chunk, &chunk].concat();
    refused(&address, "chunks without end", &too_long, 413, "body-too-large");

    assert!(relay.is_alive());
    assert_eq!(read_all(&http_client(), relay.url()).await, []);
    assert_eq!(exchange(&address, &post(&cell)).status, 201, "the token is unspent");
    let tokens = &tokens[1..];
    let authorization = bound(&tokens[0], &cell);
    let paid = ("Authorization", authorization.as_str());
    let chunked = head("POST", PATH, &[OCTETS, paid, ("Transfer-Encoding", "chunked")]);
    let whole = [&chunked[..], b"800\r\n", &cell, b"\r\n0\r\n\r\n"].concat();
    assert_eq!(exchange(&address, &whole).status, 201, "a chunked body of the right size is good");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_reads_paths_and_methods() {
    let world = World::default();
    let (relay, tokens) = scene(&world).await;
    let address = relay.address();
    let cell = cell("a message");
    let headers = [OCTETS, ("Authorization", &bound(&tokens[0], &cell))];
    assert_eq!(exchange(address, &request("POST", PATH, &headers, &cell)).status, 201);

    let get = |path: &str| request("GET", path, &[], b"");
    for path in [
        "/v1/messages?after=-1",
        "/v1/messages?after=two",
        "/v1/messages?limit=99999999999999999999",
        "/v1/messages?follow=perhaps",
        "/v1/messages?since=1",
        "/v1/messages?after=2",
    ] {
        refused(address, path, &get(path), 400, "malformed-request");
    }
    refused(address, "path", &get("/v2/messages"), 404, "not-found");
    refused(address, "PUT", &request("PUT", PATH, &[], b""), 405, "method-not-allowed");
    refused(address, "POST", &request("POST", "/v1/info", &[], b""), 405, "method-not-allowed");
    assert_eq!(exchange(address, b"\0\0\0\0\r\n\r\n").status, 400);
    // Parameters are compared with each other: many of them must not reach that point.
    let many: Vec<String> = (0..20_000).map(|n| format!("a{n}=")).collect();
    let many = format!("PrivateToken {}", many.join(","));
    assert_eq!(exchange(address, &head("POST", PATH, &[("Authorization", &many)])).status, 431);
    let long = format!("PrivateToken token={}", "A".repeat(10_000));
    let long = request("POST", PATH, &[OCTETS, ("Authorization", &long)], &cell);
    refused(address, "long value", &long, 401, "malformed-token");
    for path in ["/healthz", "/readyz", "/v1/info", "/v1/messages", "/v1/messages?after=1"] {
        assert_eq!(exchange(address, &get(path)).status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_can_turn_the_bearer_form_off() {
    let world = World::default();
    let config = world.relay_data().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("bearer = true", "bearer = false")).unwrap();
    let (relay, tokens) = scene(&world).await;
    let cell = cell("a message");
    let post = |authorization: String| {
        request("POST", PATH, &[OCTETS, ("Authorization", &authorization)], &cell)
    };
    let bearer = post(tokens[0].header_value());
    refused(relay.address(), "bearer", &bearer, 401, "no-token");
    assert_eq!(exchange(relay.address(), &post(bound(&tokens[0], &cell))).status, 201);
}
