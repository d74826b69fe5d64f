//! Reading: everything to everyone, in pages, live, and never silently less than was asked for.

use std::time::Duration;

use futures_util::future::join_all;
use tocyn_client::read::{Range, ReadError, Reader};
use tocyn_client::relay::RelayClient;
use tocyn_client::transport::Transport;
use tocyn_e2e::bearer::{bound, buy, cell, http_client, post, read_all};
use tocyn_e2e::service::Service;
use tocyn_e2e::world::World;
use tocyn_protocol::problem::Problem;
use tocyn_protocol::relay::RelayInfo;
use tocyn_protocol::token::Token;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Stores so many messages, one after the other.
async fn fill(relay: &Service, tokens: &[Token], from: usize) {
    for (n, token) in tokens.iter().enumerate() {
        let cell = cell(&format!("message {}", from + n));
        let answer = post(&http_client(), relay.url(), &bound(token, &cell), &cell).await.unwrap();
        assert_eq!(answer.status().as_u16(), 201);
    }
}

async fn tokens(world: &World, count: usize) -> Vec<Token> {
    let issuer = world.start_issuer();
    buy(&http_client(), issuer.url(), &world.voucher(count as u64), count).await
}

fn client(url: &str) -> RelayClient {
    RelayClient::new(&Transport::default(), url.parse().unwrap())
}

/// Reads a range to its end.
async fn read(url: &str, range: Range) -> Result<Vec<u64>, ReadError> {
    let relay = client(url);
    let info = relay.info().await.unwrap();
    let mut reader = Reader::new(&relay, &info, range);
    let mut sequences = Vec::new();
    while let Some((seq, _)) = reader.next().await? {
        sequences.push(seq);
    }
    Ok(sequences)
}

#[tokio::test(flavor = "multi_thread")]
async fn after_and_limit_cut_the_log_where_they_say() {
    let world = World::default();
    let tokens = tokens(&world, 160).await;
    let relay = world.start_relay();
    assert_eq!(read(relay.url(), Range::default()).await.unwrap(), [0; 0]);
    fill(&relay, &tokens, 1).await;
    let range = |after, limit| Range { after, limit, follow: false };
    // More than two pages, so that page borders are crossed.
    assert_eq!(read(relay.url(), range(None, None)).await.unwrap(), Vec::from_iter(1..=160));
    assert_eq!(
        read(relay.url(), range(Some(0), Some(100))).await.unwrap(),
        Vec::from_iter(1..=100)
    );
    assert_eq!(read(relay.url(), range(Some(150), None)).await.unwrap(), Vec::from_iter(151..=160));
    assert_eq!(read(relay.url(), range(Some(158), Some(1))).await.unwrap(), [159]);
    assert_eq!(read(relay.url(), range(Some(160), None)).await.unwrap(), [0; 0]);
    assert_eq!(read(relay.url(), range(None, Some(0))).await.unwrap(), [0; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_who_follows_gets_every_message_once_and_in_order() {
    let world = World::default();
    let tokens = tokens(&world, 80).await;
    let relay = world.start_relay();
    let (before, live) = tokens.split_at(16);
    fill(&relay, before, 1).await;
    let followers: Vec<_> = (0..50)
        .map(|n| {
            let relay = client(relay.url());
            // Some begin at the head, some far behind it.
            let range = Range { after: Some(n % 17), limit: Some(80 - n % 17), follow: true };
            tokio::spawn(async move {
                let info = relay.info().await.unwrap();
                let mut reader = Reader::new(&relay, &info, range);
                let mut messages = Vec::new();
                while let Some(message) = reader.next().await.unwrap() {
                    messages.push(message);
                }
                messages
            })
        })
        .collect();
    // One by one and all at once, so that commits of one message and of many are followed.
    fill(&relay, &live[..8], 17).await;
    join_all(live[8..].iter().map(|token| fill(&relay, std::slice::from_ref(token), 25))).await;
    let all = read_all(&http_client(), relay.url()).await;
    assert_eq!(all.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), Vec::from_iter(1..=80));
    for (n, messages) in join_all(followers).await.into_iter().enumerate() {
        assert_eq!(messages.unwrap(), all[n % 17..], "follower {n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_goes_on_where_it_was_when_the_relay_starts_again() {
    let world = World::default();
    let tokens = tokens(&world, 16).await;
    let relay = world.start_relay();
    let (address, url) = (relay.address().to_owned(), relay.url().to_owned());
    let range = Range { after: Some(0), limit: Some(16), follow: true };
    let follower = tokio::spawn(async move { read(&url, range).await.unwrap() });
    fill(&relay, &tokens[..7], 1).await;
    relay.kill();
    let relay = Service::start_at("tocyn-relay", &world.relay_data(), &address);
    fill(&relay, &tokens[7..], 8).await;
    assert_eq!(follower.await.unwrap(), Vec::from_iter(1..=16));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_gone_are_said_to_be_gone() {
    let world = World::default();
    let tokens = tokens(&world, 16).await;
    let config = world.relay_data().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let bounded = text.replace("max_bytes = 10000000000", "max_bytes = 10240");
    assert_ne!(bounded, text);
    std::fs::write(&config, bounded).unwrap();
    let relay = world.start_relay();
    fill(&relay, &tokens, 1).await;
    assert_eq!(relay.stop().code(), Some(0));
    let relay = world.start_relay(); // retention runs at the start

    // Who reads meanwhile may be cut off in the midst of what goes.
    while client(relay.url()).info().await.unwrap().oldest < 12 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let kept = read_all(&http_client(), relay.url()).await;
    assert_eq!(kept.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), Vec::from_iter(12..=16));
    let gone =
        http_client().get(format!("{}/v1/messages?after=3", relay.url())).send().await.unwrap();
    assert_eq!(gone.status().as_u16(), 410);
    let problem: Problem = gone.json().await.unwrap();
    assert_eq!(problem.urn, "urn:tocyn:problem:cursor-gone");
    assert_eq!(problem.oldest, Some(12));
    assert!(problem.detail.contains("after=11"), "{}", problem.detail);
    let range = Range { after: Some(11), ..Range::default() };
    assert_eq!(read(relay.url(), range).await.unwrap(), Vec::from_iter(12..=16));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_is_cut_off_and_can_resume() {
    let world = World::default();
    let tokens = tokens(&world, 512).await;
    let config = world.relay_data().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("write_timeout = \"30s\"", "write_timeout = \"1s\"");
    // Cells that are large enough to fill the socket's buffers.
    std::fs::write(&config, text.replace("cell_bytes = 2048", "cell_bytes = 65535")).unwrap();
    let relay = world.start_relay();
    let http = http_client();
    for token in &tokens[..300] {
        let cell = vec![7; 65535];
        let answer = post(&http, relay.url(), &bound(token, &cell), &cell).await.unwrap();
        assert_eq!(answer.status().as_u16(), 201);
    }
    let mut stream = tokio::net::TcpStream::connect(relay.address()).await.unwrap();
    stream.write_all(b"GET /v1/messages HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut received = Vec::new();
    let _ = stream.read_to_end(&mut received).await;
    assert!(received.len() < 300 * 65535, "it was cut off");
    assert_eq!(read(relay.url(), Range::default()).await.unwrap(), Vec::from_iter(1..=300));
}

/// A relay that withholds messages, written by hand: the real one cannot be made to.
async fn lying_relay(info: RelayInfo, sequences: &'static [u64]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let frames: Vec<u8> =
        sequences.iter().flat_map(|seq| [&seq.to_be_bytes()[..], &cell("x")].concat()).collect();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let n = stream.read(&mut request).await.unwrap();
            let body = match request[..n].starts_with(b"GET /v1/info") {
                true => serde_json::to_vec(&info).unwrap(),
                false => frames.clone(),
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_notices_messages_that_are_withheld_or_repeated() {
    let world = World::default();
    let info = client(world.start_relay().url()).info().await.unwrap();
    for (sequences, expected, got) in [(&[1, 2, 4][..], 3, 4), (&[1, 2, 2], 3, 2), (&[2, 3], 1, 2)]
    {
        let url = lying_relay(info.clone(), sequences).await;
        let range = Range { after: Some(0), ..Range::default() };
        match read(&url, range).await {
            Err(ReadError::Gap { expected: e, got: g }) => assert_eq!((e, g), (expected, got)),
            other => panic!("{other:?}"),
        }
    }
}
