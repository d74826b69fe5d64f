//! What the issuer does with requests that are wrong: each gets its own problem type, nothing is
//! charged, and it goes on.

use tocyn_e2e::bearer::{batch, buy, current_key, http_client};
use tocyn_e2e::raw_http::{Answer, exchange, head, request};
use tocyn_e2e::world::{World, succeed};
use tocyn_issuer::attester::Attester;
use tocyn_issuer::store::Store;
use tocyn_issuer::voucher::VoucherCode;
use tocyn_protocol::media_type::{BATCH_REQUEST, TOKEN_REQUEST};

const PATH: &str = "/token-request";
/// The largest batch by default.
const MAX_BATCH: usize = 512;

/// Sends a request and checks how it is refused.
fn refused(address: &str, name: &str, bytes: &[u8], status: u16, problem_type: &str) -> Answer {
    let answer = exchange(address, bytes);
    assert_eq!(answer.status, status, "{name}: {answer:?}");
    let problem = answer.problem();
    assert_eq!(problem.urn, format!("urn:tocyn:problem:{problem_type}"), "{name}");
    assert_eq!(problem.status, status, "{name}");
    assert!(problem.detail.len() > 10, "{name}: {problem:?} does not say what is wrong");
    answer
}

fn with_bytes(body: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut changed = body.to_vec();
    changed[at..at + bytes.len()].copy_from_slice(bytes);
    changed
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bodies_are_refused_and_cost_nothing() {
    let world = World::default();
    let (issuer, http, voucher) = (world.start_issuer(), http_client(), world.voucher(10_000));
    let key = current_key(&http, issuer.url()).await;
    let authorization = format!("Bearer {voucher}");
    let post = |media_type: &str, body: &[u8]| {
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", media_type)];
        request("POST", PATH, &headers, body)
    };
    let good = batch(&key, 16).0.to_bytes();
    assert_eq!(good.len(), 3 + 2 + 16 * 32);
    let one = [&good[..3], &good[5..37]].concat();
    let identity = [0; 32];
    let beyond_the_field = [0xff; 32];
    let not_on_the_group = with_bytes(&[0; 32], 0, &[2]);
    let long_varint = [&good[..3], &[0x80, 0, 2, 0], &good[5..]].concat();
    let ragged = [&good[..3], &[0x40, 33], &good[5..38]].concat();
    let too_many = batch(&key, MAX_BATCH + 1).0.to_bytes();
    let far_too_many = batch(&key, 3 * MAX_BATCH).0.to_bytes();

    let malformed = (422, "malformed-token-request");
    let unknown_key = (422, "unknown-token-key");
    for (name, media_type, body, (status, problem_type)) in [
        ("empty", BATCH_REQUEST, vec![], malformed),
        ("short", BATCH_REQUEST, good[..good.len() - 1].to_vec(), malformed),
        ("one trailing byte", BATCH_REQUEST, [&good[..], &[0]].concat(), malformed),
        ("identity", BATCH_REQUEST, with_bytes(&good, 5 + 32, &identity), malformed),
        ("beyond the field", BATCH_REQUEST, with_bytes(&good, 5, &beyond_the_field), malformed),
        ("not on the group", BATCH_REQUEST, with_bytes(&good, 5, &not_on_the_group), malformed),
        ("varint too long", BATCH_REQUEST, long_varint, malformed),
        ("half an element", BATCH_REQUEST, ragged, malformed),
        ("no elements", BATCH_REQUEST, [&good[..3], &[0]].concat(), malformed),
        ("another token type", BATCH_REQUEST, with_bytes(&good, 0, &[0, 2]), malformed),
        ("one too many", BATCH_REQUEST, too_many, (422, "batch-too-large")),
        ("far too many", BATCH_REQUEST, far_too_many, (413, "body-too-large")),
        ("another key", BATCH_REQUEST, with_bytes(&good, 2, &[good[2] ^ 1]), unknown_key),
        ("one: empty", TOKEN_REQUEST, vec![], malformed),
        ("one: short", TOKEN_REQUEST, one[..34].to_vec(), malformed),
        ("one: trailing byte", TOKEN_REQUEST, [&one[..], &[0]].concat(), malformed),
        ("one: identity", TOKEN_REQUEST, with_bytes(&one, 3, &identity), malformed),
        ("one: beyond the field", TOKEN_REQUEST, with_bytes(&one, 3, &beyond_the_field), malformed),
        ("one: another key", TOKEN_REQUEST, with_bytes(&one, 2, &[one[2] ^ 1]), unknown_key),
        ("a batch as one", TOKEN_REQUEST, good.clone(), malformed),
        ("one as a batch", BATCH_REQUEST, one.clone(), malformed),
        ("wrong media type", "text/plain", good.clone(), (415, "media-type")),
        ("empty media type", "", good.clone(), (415, "media-type")),
    ] {
        let answer =
            refused(issuer.address(), name, &post(media_type, &body), status, problem_type);
        if problem_type == "batch-too-large" {
            assert_eq!(answer.problem().limit, Some(MAX_BATCH as u64));
        }
    }
    assert_eq!(world.vouchers_left(), 10_000, "nothing was charged");
    assert_eq!(exchange(issuer.address(), &post(BATCH_REQUEST, &good)).status, 200);
    assert_eq!(exchange(issuer.address(), &post(TOKEN_REQUEST, &one)).status, 200);
    assert_eq!(world.vouchers_left(), 10_000 - 17);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_vouchers_are_refused_each_in_its_way() {
    let world = World::default();
    let (issuer, http) = (world.start_issuer(), http_client());
    let body = batch(&current_key(&http, issuer.url()).await, 16).0.to_bytes();
    let post = |authorization: &[&str]| {
        let mut headers = vec![("Content-Type", BATCH_REQUEST)];
        headers.extend(authorization.iter().map(|value| ("Authorization", *value)));
        request("POST", PATH, &headers, &body)
    };
    let bearer = |voucher: &str| format!("Bearer {voucher}");
    let good = bearer(&world.voucher(100));
    let poor = world.voucher(15);
    let revoked = world.voucher(100);
    world.issuer_command(&["voucher", "revoke", &revoked]);
    let expired = {
        let code = VoucherCode::random(&mut rand_core::UnwrapErr(getrandom::SysRng));
        let store =
            Store::open(&world.issuer_data().join("issuer.sqlite").as_path().into()).await.unwrap();
        store.create_vouchers(&[code.hash()], Attester::Voucher, 100, 1_000_000).await.unwrap();
        store.close().await;
        code.text().to_string()
    };
    let mut mistyped = good.clone();
    let digit = if mistyped.pop() == Some('0') { '1' } else { '0' };
    mistyped.push(digit);
    let of_nobody = VoucherCode::random(&mut rand_core::UnwrapErr(getrandom::SysRng)).text();

    for (name, headers, status, problem_type) in [
        ("none", vec![], 401, "voucher-missing"),
        ("another scheme", vec!["Basic dXNlcjpwYXNz".to_owned()], 401, "voucher-missing"),
        ("no code", vec!["Bearer".to_owned()], 401, "voucher-missing"),
        ("two headers", vec![good.clone(), good.clone()], 401, "voucher-missing"),
        ("no voucher", vec![bearer("abc")], 401, "voucher-unknown"),
        ("mistyped", vec![mistyped], 401, "voucher-unknown"),
        ("of nobody", vec![bearer(&of_nobody)], 401, "voucher-unknown"),
        ("too poor", vec![bearer(&poor)], 403, "voucher-exhausted"),
        ("revoked", vec![bearer(&revoked)], 403, "voucher-revoked"),
        ("expired", vec![bearer(&expired)], 403, "voucher-expired"),
    ] {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let answer = refused(issuer.address(), name, &post(&headers), status, problem_type);
        if status == 401 {
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{name}");
        }
        if problem_type == "voucher-exhausted" {
            assert_eq!(answer.problem().balance, Some(15), "it says what is left");
        }
    }
    let two_types = [("Content-Type", BATCH_REQUEST), ("Content-Type", BATCH_REQUEST)];
    let two_types = [&two_types[..], &[("Authorization", good.as_str())]].concat();
    let two_types = request("POST", PATH, &two_types, &body);
    refused(issuer.address(), "two media types", &two_types, 415, "media-type");
    assert_eq!(world.vouchers_left(), 100 + 15 + 100 + 100, "nothing was charged");
    assert_eq!(exchange(issuer.address(), &post(&[&good])).status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_do_not_end_and_paths_that_are_not_there() {
    let world = World::default();
    let config = world.issuer_data().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("body_timeout = \"30s\"", "body_timeout = \"1s\""))
        .unwrap();
    let (mut issuer, http, voucher) = (world.start_issuer(), http_client(), world.voucher(160));
    let authorization = format!("Bearer {voucher}");
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", BATCH_REQUEST)];
    let address = issuer.address().to_owned();

    let stalled =
        [head("POST", PATH, &[&headers[..], &[("Content-Length", "517")]].concat()), vec![0; 9]];
    refused(&address, "stalled", &stalled.concat(), 408, "body-incomplete");
    let chunked = head("POST", PATH, &[&headers[..], &[("Transfer-Encoding", "chunked")]].concat());
    let stalled = [&chunked[..], b"5\r\nhello\r\n"].concat();
    refused(&address, "stalled in chunks", &stalled, 408, "body-incomplete");
    let endless: Vec<u8> = std::iter::repeat_n(*b"400\r\n", 64)
        .flat_map(|size| [&size[..], &[7; 1024], b"\r\n"].concat())
        .collect();
    let endless = [&chunked[..], &endless].concat();
    refused(&address, "chunks without end", &endless, 413, "body-too-large");

    refused(&address, "no such path", &request("GET", "/nothing", &[], b""), 404, "not-found");
    refused(&address, "GET", &request("GET", PATH, &[], b""), 405, "method-not-allowed");
    let directory = "/.well-known/private-token-issuer-directory";
    refused(&address, "POST", &request("POST", directory, &[], b""), 405, "method-not-allowed");
    assert_eq!(exchange(&address, b"this is not HTTP\r\n\r\n").status, 400);
    let long_head = head("GET", "/", &[("X", "x".repeat(1 << 20).as_str())]);
    assert!(exchange(&address, &long_head).status >= 400);

    assert!(issuer.is_alive());
    for path in ["/healthz", "/readyz", directory] {
        assert_eq!(exchange(&address, &request("GET", path, &[], b"")).status, 200, "{path}");
    }
    assert_eq!(world.vouchers_left(), 160, "nothing was charged");
    assert_eq!(buy(&http, issuer.url(), &voucher, 16).await.len(), 16);
}

/// A wallet must not buy where issuer and relay show different keys.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_does_not_buy_from_an_issuer_whose_keys_the_relay_does_not_show() {
    let other = World::default();
    // A pairing that follows another one begins later.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let world = World::default();
    let (issuer, relay) = (world.start_issuer(), other.start_relay());
    let voucher = world.voucher(100);
    let args = ["request", "--issuer", issuer.url(), "--relay", relay.url()];
    let mut command = world.tocyn(&[&args[..], &["--voucher", &voucher, "--count", "16"]].concat());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("that are not those in the statement of keys"), "{stderr}");
    assert_eq!(world.vouchers_left(), 100);
    assert_eq!(world.balance()["unspent"], 0);

    // With the right pairing the same command succeeds, once the person has accepted that.
    drop(relay);
    let pairing = world.pairing_file();
    other.relay_command(&["pairing", "install", "--new-issuer", pairing.to_str().unwrap()]);
    let relay = other.start_relay();
    let args = ["request", "--issuer", issuer.url(), "--relay", relay.url()];
    succeed(&mut world.tocyn(&["relay", "look", relay.url()]));
    succeed(&mut world.tocyn(&["relay", "accept", "relay.example"]));
    succeed(&mut world.tocyn(&[&args[..], &["--voucher", &voucher, "--count", "16"]].concat()));
    assert_eq!(world.vouchers_left(), 84);
}
