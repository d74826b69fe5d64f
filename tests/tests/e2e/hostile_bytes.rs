//! Bytes that no client should send, against both services: header bombs, absurd chunks, garbage,
//! and requests that were damaged. While they come customers are served, no answer says that a
//! service failed, nothing panics, and memory stays bounded. What is random is drawn from a seed,
//! which is printed: `TOCYN_SEED=N ./test hostile_bytes` has it again.

use std::sync::Arc;
use std::time::SystemTime;

use tocyn_e2e::bearer::{batch, bound, cell, current_key, http_client, read_all};
use tocyn_e2e::faults::Dice;
use tocyn_e2e::hostile::{Answers, Scene, Volley};
use tocyn_e2e::raw_http::request;
use tocyn_protocol::directory::DIRECTORY_PATH;
use tokio::task::JoinSet;

use crate::heavy;
use crate::hostile::{BATCH, OCTETS, paid_heads};

const CHUNKED: (&str, &str) = ("Transfer-Encoding", "chunked");

/// What no library sends. Each ends by itself, if only because a time is over.
async fn volleys(scene: &Scene) -> Vec<(&'static str, Vec<Volley>)> {
    let once = |text: &str| Volley { opening: text.as_bytes().to_vec(), ..Volley::default() };
    let endless = |opening: Vec<u8>, repeated: &[u8]| Volley {
        opening,
        repeated: repeated.repeat((1 << 16) / repeated.len()),
        times: 1024, // of 64 KiB
        ends: false,
    };
    let get = "GET /healthz HTTP/1.1\r\nHost: test\r\n";
    let request = format!("{get}\r\n");
    let pipelined = request.repeat(100);
    let many = |count: usize| (0..count).map(|n| format!("X-{n}: {n}\r\n")).collect::<String>();
    let [issuer, relay] = paid_heads(scene, CHUNKED).await;
    let chunked = [issuer, relay];
    let with_chunk = |text: &str| {
        let volley = |head: &Vec<u8>| Volley {
            opening: [&head[..], text.as_bytes()].concat(),
            ..Volley::default()
        };
        chunked.iter().map(volley).collect::<Vec<_>>()
    };
    let endless_chunks = |start: &str, repeated: &[u8]| {
        let endless = |head: &Vec<u8>| endless([&head[..], start.as_bytes()].concat(), repeated);
        chunked.iter().map(endless).collect::<Vec<_>>()
    };
    vec![
        ("pipelined, then garbage", vec![once(&format!("{pipelined}\u{0}garbage\r\n\r\n"))]),
        (
            "pipelined without end",
            vec![Volley { times: 16, ..endless(Vec::new(), request.as_bytes()) }],
        ),
        ("garbage without end", vec![endless(Vec::new(), b"\xff\x00garbage ")]),
        ("empty lines without end", vec![endless(Vec::new(), b"\r\n")]),
        ("65 headers", vec![once(&format!("{get}{}\r\n", many(65)))]),
        ("1000 headers", vec![once(&format!("{get}{}\r\n", many(1000)))]),
        ("headers without end", vec![endless(get.into(), b"X-Y: z\r\n")]),
        ("a header without end", vec![endless(format!("{get}X-Long: ").into(), b"aaaaaaaa")]),
        ("a header's name without end", vec![endless(get.into(), b"aaaaaaaa")]),
        ("a path without end", vec![endless(b"GET /".to_vec(), b"tile/0/")]),
        ("a folded header", vec![once(&format!("{get}X: a\r\n b\r\n\r\n"))]),
        ("a NUL in a header", vec![once(&format!("{get}X: a\0b\r\n\r\n"))]),
        ("no colon", vec![once(&format!("{get}nothing\r\n\r\n"))]),
        (
            "two lengths",
            vec![once(
                "POST /v1/messages HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            )],
        ),
        (
            "a length and chunks",
            vec![once(
                "POST /v1/messages HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            )],
        ),
        (
            "a length below zero",
            vec![once("POST /token-request HTTP/1.1\r\nContent-Length: -1\r\n\r\n")],
        ),
        (
            "the longest length",
            vec![once(
                "POST /token-request HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n",
            )],
        ),
        (
            "a length that is none",
            vec![once(
                "POST /v1/messages HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
            )],
        ),
        (
            "another coding",
            vec![once("POST /v1/messages HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n")],
        ),
        (
            "another protocol",
            vec![once("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), once("\u{16}\u{3}\u{1}\u{2}\0\u{1}")],
        ),
        (
            "other versions",
            vec![
                once("GET /healthz HTTP/0.9\r\n\r\n"),
                once("GET /healthz\r\n\r\n"),
                once("GET /healthz HTTP/1.0\r\n\r\n"),
            ],
        ),
        (
            "other targets",
            vec![
                once("OPTIONS * HTTP/1.1\r\n\r\n"),
                once("CONNECT a:1 HTTP/1.1\r\n\r\n"),
                once("GET http://other/healthz HTTP/1.1\r\n\r\n"),
                once("GET /tile/../../../etc/passwd HTTP/1.1\r\n\r\n"),
                once("GET /tile/%2e%2e/%00%ff HTTP/1.1\r\n\r\n"),
            ],
        ),
        ("an upgrade", vec![once(&format!("{get}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"))]),
        (
            "a body that was promised",
            vec![once(
                "POST /v1/messages HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
            )],
        ),
        ("the longest chunk", with_chunk("FFFFFFFFFFFFFFFF\r\naaaa")),
        ("a chunk that is too long", with_chunk("FFFFFFFFFFFFFFFFF\r\naaaa")),
        ("a chunk below zero", with_chunk("-1\r\naaaa")),
        ("a chunk of text", with_chunk("five\r\nhello\r\n0\r\n\r\n")),
        ("a chunk without an end", with_chunk("5\r\nhelloworld")),
        ("a large chunk", endless_chunks("7FFFFFFFFFFFFFFF\r\n", b"aaaaaaaa")),
        ("zeros before a chunk's size", endless_chunks("", b"00000000")),
        ("an extension without end", endless_chunks("1;", b"a=bbbbbb")),
        ("chunks of a byte with extensions", endless_chunks("", b"1;aaaaaa\r\nb\r\n")),
        ("trailers without end", endless_chunks("0\r\n", b"X-Y: z\r\n")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn header_bombs_absurd_chunks_and_garbage_are_cut_off_and_harm_nobody() {
    let _turn = heavy().await;
    let mut scene = Scene::new("3s");
    let volleys = volleys(&scene).await;
    let addresses = scene.services().map(|service| service.address().to_owned());
    let mut fights = JoinSet::new();
    for (name, volleys) in volleys {
        for (address, volley) in addresses.iter().flat_map(|a| volleys.iter().map(move |v| (a, v)))
        {
            let (address, volley) = (address.clone(), volley.clone());
            fights.spawn(async move {
                let (answer, taken) = volley.fire(&address).await;
                (name, answer, taken)
            });
        }
        scene.serves(1, name).await;
    }
    let mut all = Answers::default();
    while let Some(fight) = fights.join_next().await {
        let (name, answer, taken) = fight.unwrap();
        let mut answers = Answers::default();
        answers.add(&answer);
        all.add(&answer);
        answers.are_decent(name);
        // Of 64 MiB; the rest is what the system's buffers take. Zeros before a size are read for as
        // long as a body may take, and kept nowhere.
        if !["pipelined without end", "zeros before a chunk's size"].contains(&name) {
            assert!(taken < 32 << 20, "{name}: {taken} bytes were taken");
        }
        match name {
            "pipelined, then garbage" => {
                assert_eq!(answers.0.get(&200), Some(&100), "{answers:?}");
                assert_eq!(answers.0.get(&400), Some(&1), "{answers:?}");
            }
            "pipelined without end" | "other versions" | "an upgrade" | "other targets" => {}
            _ => assert_eq!(answers.0.get(&200), None, "{name}: {answers:?}"),
        }
    }
    all.are_decent("all");
    for status in [400, 401, 408, 413, 431] {
        assert!(all.0.contains_key(&status), "nothing was answered {status}: {all:?}");
    }
    scene.serves(3, "after it").await;
    scene.is_unharmed("bombs");
}

fn seed() -> u64 {
    match std::env::var("TOCYN_SEED") {
        Ok(text) => text.parse().expect("TOCYN_SEED must be a number"),
        Err(_) => {
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64
        }
    }
}

fn noise(dice: &mut Dice, most: u64) -> Vec<u8> {
    let len = dice.below(most + 1);
    (0..len).map(|_| dice.throw() as u8).collect()
}

/// Bytes changed, put in, taken out or cut off at random places.
fn damaged(dice: &mut Dice, bytes: &[u8]) -> Volley {
    let mut bytes = bytes.to_vec();
    for _ in 0..=dice.below(4) {
        if bytes.is_empty() {
            break; // the last one was taken out
        }
        let place = dice.below(bytes.len() as u64) as usize;
        match dice.below(4) {
            0 => bytes[place] = dice.throw() as u8,
            1 => bytes.insert(place, dice.throw() as u8),
            2 => drop(bytes.remove(place)),
            _ if dice.below(4) == 0 => bytes.truncate(place.max(1)),
            _ => bytes[place] ^= 1 << dice.below(8),
        }
    }
    Volley { opening: bytes, ends: dice.below(2) == 0, ..Volley::default() }
}

/// Random bytes in a random place: in all of it, in the path, in a header or in the body.
fn random(dice: &mut Dice, routes: &[&str]) -> Volley {
    let route = routes[dice.below(routes.len() as u64) as usize];
    let method = ["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS"][dice.below(6) as usize];
    let hex = hex::encode(noise(dice, 40));
    let opening = match dice.below(5) {
        0 => noise(dice, 4096),
        1 => request(method, &format!("{route}{hex}"), &[], b""),
        2 => request(method, &format!("{route}?{hex}=%{hex}&after={hex}"), &[], &noise(dice, 99)),
        3 => {
            let value = String::from_utf8_lossy(&noise(dice, 300)).replace(['\r', '\n'], "=");
            let scheme = ["PrivateToken token=", "TocynBound input=", "Bearer tv1-", ""];
            let value = format!("{}{value}", scheme[dice.below(4) as usize]);
            let kind = [OCTETS, BATCH][dice.below(2) as usize];
            request(method, route, &[kind, ("Authorization", &value)], &noise(dice, 4096))
        }
        _ => request(method, route, &[], &noise(dice, 20_000)),
    };
    Volley { opening, ends: dice.below(2) == 0, ..Volley::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_and_damaged_requests_harm_nobody() {
    const VOLLEYS: usize = 1500;
    const AT_ONCE: usize = 48;
    let _turn = heavy().await;
    let seed = seed();
    println!("random bytes: TOCYN_SEED={seed}");
    let mut dice = Dice::new(seed);
    let mut scene = Scene::new("2s");
    let paid = format!("Bearer {}", scene.voucher);
    let body = batch(&current_key(&http_client(), scene.issuer.url()).await, 16).0.to_bytes();
    let token_request =
        request("POST", "/token-request", &[BATCH, ("Authorization", &paid)], &body);
    let posted = cell("posted by whom the bytes come from");
    let authorization = bound(&scene.tokens().await[0], &posted);
    let post =
        request("POST", "/v1/messages", &[OCTETS, ("Authorization", &authorization)], &posted);
    let sides = [
        (
            scene.issuer.address().to_owned(),
            vec!["/", DIRECTORY_PATH, "/token-request", "/healthz", "/readyz"],
            token_request,
        ),
        (
            scene.relay.address().to_owned(),
            vec![
                "/",
                "/v1/messages",
                "/v1/info",
                "/checkpoint",
                "/tile/0/000",
                "/tile/entries/000",
                "/healthz",
                "/readyz",
            ],
            post,
        ),
    ];
    for (address, routes, good) in sides {
        let turns = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
        let mut fights = JoinSet::new();
        let mut answers = Answers::default();
        for number in 0..VOLLEYS {
            let volley = match number % 2 {
                0 => random(&mut dice, &routes),
                _ => damaged(&mut dice, &good),
            };
            let turn = turns.clone().acquire_owned().await.unwrap();
            let address = address.clone();
            fights.spawn(async move {
                let _turn = turn;
                volley.fire(&address).await.0
            });
            if number % (VOLLEYS / 3) == 0 {
                scene.serves(1, &format!("among random bytes, {number}")).await;
            }
        }
        while let Some(answer) = fights.join_next().await {
            answers.add(&answer.unwrap());
        }
        answers.are_decent(&format!("TOCYN_SEED={seed}"));
        // If it did not come as far as all of these, it would show little.
        for status in [200, 400, 401, 404, 405, 415] {
            assert!(answers.0.contains_key(&status), "none was answered {status}: {answers:?}");
        }
    }
    for (_, cell) in read_all(&http_client(), scene.relay.url()).await {
        let whole = cell == posted || cell[2..].starts_with(b"among random bytes");
        assert!(whole, "TOCYN_SEED={seed}: something was posted that nobody has paid for");
    }
    scene.is_unharmed(&format!("TOCYN_SEED={seed}"));
}
