//! SIGTERM: requests in flight are answered, readers that follow are let go, the process exits
//! with status 0.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tocyn_e2e::bearer::{batch, bound, buy, cell, current_key, http_client, post, read_all};
use tocyn_e2e::raw_http::head;
use tocyn_e2e::service::Service;
use tocyn_e2e::world::World;

/// Sends the head and half of the body, then the signal, then the rest; gives the answer.
async fn stopped_in_the_middle(
    service: Service,
    head: &[u8],
    body: &[u8],
) -> (String, Option<i32>) {
    let address = service.address().to_owned();
    let mut stream = TcpStream::connect(&address).unwrap();
    let (first, rest) = body.split_at(body.len() / 2);
    stream.write_all(&[head, first].concat()).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    service.signal_stop();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(TcpStream::connect(&address).is_err(), "no new connection is taken");
    stream.write_all(rest).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let code = tokio::task::spawn_blocking(move || service.stop().code()).await.unwrap();
    (String::from_utf8_lossy(&answer).into_owned(), code)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_stores_and_acknowledges_the_post_in_flight() {
    let world = World::default();
    let (issuer, relay, http) = (world.start_issuer(), world.start_relay(), http_client());
    let token = buy(&http, issuer.url(), &world.voucher(16), 16).await.remove(0);
    let cell = cell("in flight");
    let head = head(
        "POST",
        "/v1/messages",
        &[
            ("Authorization", &bound(&token, &cell)),
            ("Content-Type", "application/octet-stream"),
            ("Content-Length", "2048"),
        ],
    );
    let (answer, code) = stopped_in_the_middle(relay, &head, &cell).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(code, Some(0));
    let relay = world.start_relay();
    assert_eq!(read_all(&http, relay.url()).await, [(1, cell)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_issuer_answers_the_request_in_flight() {
    let world = World::default();
    let (issuer, http, voucher) = (world.start_issuer(), http_client(), world.voucher(16));
    let body = batch(&current_key(&http, issuer.url()).await, 16).0.to_bytes();
    let head = head(
        "POST",
        "/token-request",
        &[
            ("Authorization", &format!("Bearer {voucher}")),
            ("Content-Type", "application/private-token-amortized-batch-request"),
            ("Content-Length", &body.len().to_string()),
        ],
    );
    let (answer, code) = stopped_in_the_middle(issuer, &head, &body).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(code, Some(0));
    assert_eq!(world.vouchers_left(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_follow_get_the_end_of_the_stream() {
    let world = World::default();
    let (issuer, relay, http) = (world.start_issuer(), world.start_relay(), http_client());
    let token = buy(&http, issuer.url(), &world.voucher(16), 16).await.remove(0);
    let mut stream =
        http.get(format!("{}/v1/messages?follow=true", relay.url())).send().await.unwrap();
    let cell = cell("live");
    post(&http, relay.url(), &bound(&token, &cell), &cell).await.unwrap();
    assert_eq!(stream.chunk().await.unwrap().unwrap().len(), 8 + 2048);
    let stopped = tokio::task::spawn_blocking(move || relay.stop().code());
    assert_eq!(stream.chunk().await.unwrap(), None);
    assert_eq!(stopped.await.unwrap(), Some(0));
}
