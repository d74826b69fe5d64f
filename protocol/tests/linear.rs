//! What strangers send is read in a time that grows with its length and no faster: the worst bytes that
//! we know of take at most 20 times as long as harmless ones of the same length.

#![allow(clippy::print_stdout)] // ratios, for who looks

mod common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_protocol::challenge::TokenChallenge;
use tocyn_protocol::directory::IssuerDirectory;
use tocyn_protocol::issuance::{
    AmortizedBatchTokenRequest, AmortizedBatchTokenResponse, TokenRequest,
};
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::evidence::SignedProof;
use tocyn_protocol::log::note::{LogKey, VerifierKey};
use tocyn_protocol::log::tile::{Tile, decode_entries, decode_hashes};
use tocyn_protocol::problem::Problem;
use tocyn_protocol::redemption::Authorization;
use tocyn_protocol::relay::{CellDecoder, RelayInfo};
use tocyn_protocol::statement::address::Address;
use tocyn_protocol::statement::{Commitment, Signed};
use tocyn_protocol::token::{AuthenticatorInput, Token};

const BYTES: usize = 16 * 1024;
const RUNS: usize = 30;
const MAX_RATIO: f64 = 20.0;
/// Shorter times than this say more about the clock than about the bytes.
const FLOOR: Duration = Duration::from_micros(10);
/// Measurements at most, where the ratio is too high: a busy machine makes times longer, never shorter.
const TRIES: usize = 5;

/// The least of many times.
fn least(read: &dyn Fn(&[u8]), bytes: &[u8]) -> Duration {
    let once = || {
        let start = Instant::now();
        read(black_box(bytes));
        start.elapsed()
    };
    (0..RUNS).map(|_| once()).min().expect("there are runs")
}

/// So many bytes of a pattern, after a head and before an end.
fn filled(head: &str, pattern: &str, end: &str) -> Vec<u8> {
    let room = BYTES.saturating_sub(head.len() + end.len());
    let body = pattern.repeat(room / pattern.len());
    [head, &body, end].concat().into_bytes()
}

/// Compares the worst of some bytes with harmless ones.
fn compare(name: &str, read: &dyn Fn(&[u8]), harmless: &[u8], bad: &[Vec<u8>]) {
    let at_rest = least(read, harmless).max(FLOOR);
    for bytes in bad {
        let once = || least(read, bytes).as_secs_f64() / at_rest.as_secs_f64();
        let ratio = (0..TRIES).map(|_| once()).find(|ratio| *ratio <= MAX_RATIO);
        let ratio = ratio.unwrap_or_else(once);
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        println!("{name}: {ratio:.2} for {start:?}");
        assert!(ratio <= MAX_RATIO, "{name}: {ratio:.1} times as long for {start:?}...");
    }
}

/// What parsers of text tend to stumble over.
fn text_patterns(head: &str, end: &str) -> Vec<Vec<u8>> {
    let patterns = [
        ",",
        "=",
        "\"",
        "\\",
        " ",
        "\t",
        "\n",
        "/",
        ".",
        "+",
        "-",
        "a",
        "0",
        "9",
        "a=,",
        "xy=,",
        "a=b,",
        "a b=c,",
        "a=\"b\",",
        "\"\\\"",
        ", ,",
        "{",
        "[",
        "[[",
        "\":",
        "é",
        "x000/",
        "\n\n",
        "\u{2014} ",
        "AAAA",
    ];
    patterns.iter().map(|pattern| filled(head, pattern, end)).collect()
}

fn text(read: impl Fn(&str)) -> impl Fn(&[u8]) {
    move |bytes| {
        if let Ok(text) = std::str::from_utf8(bytes) {
            read(text);
        }
    }
}

#[test]
fn headers() {
    let read = text(|text| drop(black_box(Authorization::parse(text))));
    // As long as any that is looked at.
    let value = |head: &str, pattern: &str, end: &str| {
        let mut value = filled(head, pattern, end);
        value.drain(head.len()..head.len() + value.len().saturating_sub(8192));
        value
    };
    let harmless = value("PrivateToken token=\"", "A", "\"");
    let mut bad = text_patterns("PrivateToken ", "");
    bad.extend(text_patterns("TocynBound input=", ""));
    for pattern in ["a=,", "xy=,", "abc=,", "a=\"\",", "A b=,", "A,", ",", "\"", "=", " "] {
        bad.push(value("PrivateToken ", pattern, "token=A"));
        bad.push(value("", pattern, ""));
    }
    let numbered: String = (0..4000).map(|n| format!("{n:x}=,")).collect();
    bad.push(format!("PrivateToken {}", &numbered[..8000]).into_bytes());
    compare("Authorization", &read, &harmless, &bad);
}

#[test]
fn binary_documents() {
    let (zeros, ones) = (vec![0; BYTES], vec![0xff; BYTES]);
    let noise: Vec<u8> =
        (0..BYTES as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let bad = [zeros.clone(), ones.clone(), noise];
    // A valid one that is as long.
    let pairing = common::pairing("relay.example");
    let (public, challenge) = (*pairing.key_pair(0).public(), pairing.challenge());
    let batch = AmortizedBatchTokenRequest::new(&public, &challenge, 500, &mut common::rng());
    let batch = batch.unwrap().0.to_bytes();
    let read: &dyn Fn(&[u8]) =
        &|bytes| drop(black_box(AmortizedBatchTokenRequest::from_bytes(bytes)));
    compare("batch request", read, &batch, &bad);
    let mut last_is_bad = batch.clone();
    let end = last_is_bad.len();
    last_is_bad[end - 32..].fill(0xff);
    compare("batch request", read, &batch, &[last_is_bad]);
    for (name, read) in [
        (
            "token request",
            &(|bytes: &[u8]| drop(black_box(TokenRequest::from_bytes(bytes)))) as &dyn Fn(&[u8]),
        ),
        ("batch response", &|bytes| {
            drop(black_box(AmortizedBatchTokenResponse::from_bytes(bytes)))
        }),
        ("challenge", &|bytes| drop(black_box(TokenChallenge::from_bytes(bytes)))),
        ("token", &|bytes| drop(black_box(Token::from_bytes(bytes)))),
        ("authenticator input", &|bytes| drop(black_box(AuthenticatorInput::from_bytes(bytes)))),
        ("hashes", &|bytes| drop(black_box(decode_hashes(bytes, 256)))),
        ("entries", &|bytes| drop(black_box(decode_entries(bytes)))),
        ("cells", &|bytes| drop(black_box(CellDecoder::new(64).push(bytes)))),
    ] {
        compare(name, read, &batch, &bad);
    }
}

#[test]
fn texts() {
    let key = LogKey::generate("relay.example", &mut UnwrapErr(SysRng));
    let verifier = key.verifier();
    let long_text = String::from_utf8(filled("tocyn-keys/v1\n", "a line of text\n", "")).unwrap();
    let note = key.sign(&long_text);
    let line = note.lines().last().unwrap().to_owned();
    let mut bad = text_patterns("", "");
    bad.extend(text_patterns("relay.example\n1\n", &format!("\n\n{line}\n")));
    bad.extend(text_patterns("c2sp.org/tlog-proof@v1\nindex 0\n", &format!("\n\n{line}\n")));
    bad.extend(text_patterns("tocyn-keys/v1\nserial 0\n", &format!("\n\n{line}\n")));
    // Signatures without end: our own again and again, and others.
    let short = key.sign("relay.example\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n");
    let (own, other) = (short.lines().last().unwrap(), format!("\u{2014} x {}", "AAAA".repeat(20)));
    bad.push(filled(&short, &format!("{own}\n"), ""));
    bad.push(filled(&short, &format!("{other}\n"), ""));
    let harmless = note.into_bytes();
    for (name, read) in [
        ("note", &text(|t| drop(black_box(verifier.open(t)))) as &dyn Fn(&[u8])),
        ("bare note", &text(|t| drop(black_box(verifier.bare(t))))),
        ("checkpoint", &text(|t| drop(black_box(Checkpoint::open(t, &verifier))))),
        ("statement", &text(|t| drop(black_box(Signed::open(t, &verifier))))),
        ("proof", &text(|t| drop(black_box(t.parse::<SignedProof>())))),
        ("commitment", &text(|t| _ = black_box(Commitment::parse(t)))),
        ("verifier key", &text(|t| drop(black_box(t.parse::<VerifierKey>())))),
        ("address", &text(|t| drop(black_box(t.parse::<Address>())))),
        ("tile", &text(|t| drop(black_box(t.parse::<Tile>())))),
    ] {
        compare(name, read, &harmless, &bad);
    }
}

#[test]
fn json_documents() {
    let harmless = filled("{\"statements\":[", "\"aaaaaaaaaaaa\",", "\"\"]}");
    let mut bad = text_patterns("", "");
    for head in
        ["{\"statements\":[", "{\"token-keys\":[", "{\"token_keys\":[{\"proofs\":[", "{\"type\":\""]
    {
        bad.extend(text_patterns(head, ""));
        for pattern in ["\"\",", "[],", "{},", "\"\\u0061\",", "1e9,", "\"a\":1,"] {
            bad.push(filled(head, pattern, ""));
        }
    }
    for (name, read) in [
        (
            "problem",
            &(|b: &[u8]| drop(black_box(serde_json::from_slice::<Problem>(b)))) as &dyn Fn(&[u8]),
        ),
        ("directory", &|b| drop(black_box(serde_json::from_slice::<IssuerDirectory>(b)))),
        ("info", &|b| drop(black_box(serde_json::from_slice::<RelayInfo>(b)))),
    ] {
        compare(name, read, &harmless, &bad);
    }
}
