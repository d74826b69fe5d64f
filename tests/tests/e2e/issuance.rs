//! A request is charged once, however often it is sent, and many requests at once are charged and
//! answered as they should be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tocyn_e2e::bearer::{batch, bound, buy, cell, current_key, http_client, post, send};
use tocyn_e2e::world::World;
use tocyn_protocol::issuance::AmortizedBatchTokenResponse;
use tocyn_protocol::problem::Problem;
use tokio::task::JoinSet;

/// The default of `limits.max_replays`.
const MAX_REPLAYS: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_sent_many_times_at_once_is_charged_once() {
    let world = World::default();
    let (issuer, http, voucher) = (world.start_issuer(), http_client(), world.voucher(100));
    let (request, pending) = batch(&current_key(&http, issuer.url()).await, 64);
    let mut tasks = JoinSet::new();
    for _ in 0..=MAX_REPLAYS {
        let (http, url, voucher) = (http.clone(), issuer.url().to_owned(), voucher.clone());
        let body = request.to_bytes();
        tasks.spawn(async move {
            let answer = send(&http, &url, &voucher, body).await.unwrap();
            answer.error_for_status().unwrap().bytes().await.unwrap()
        });
    }
    let answers = tasks.join_all().await;
    // The proofs are random, the tokens are not.
    let elements = &answers[0][..2 + 64 * 32];
    assert!(answers.iter().all(|answer| &answer[..2 + 64 * 32] == elements));
    assert_eq!(world.vouchers_left(), 36);
    let response = AmortizedBatchTokenResponse::from_bytes(&answers[3]).unwrap();
    assert_eq!(pending.finalize(&response).unwrap().len(), 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn repeats_are_bounded_and_then_told_when_to_come_again() {
    let world = World::default();
    let (issuer, http, voucher) = (world.start_issuer(), http_client(), world.voucher(32));
    let (request, _) = batch(&current_key(&http, issuer.url()).await, 16);
    for _ in 0..=MAX_REPLAYS {
        let answer = send(&http, issuer.url(), &voucher, request.to_bytes()).await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
    }
    let answer = send(&http, issuer.url(), &voucher, request.to_bytes()).await.unwrap();
    assert_eq!(answer.status().as_u16(), 429);
    let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=3600).contains(&wait), "{wait}");
    assert_eq!(world.vouchers_left(), 16);
    // Another request is not held up by it.
    assert_eq!(buy(&http, issuer.url(), &voucher, 16).await.len(), 16);
    assert_eq!(world.vouchers_left(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_voucher_pays_for_itself_and_a_revoked_one_still_gets_what_it_paid_for() {
    let world = World::default();
    let (issuer, http) = (world.start_issuer(), http_client());
    let (first, second) = (world.voucher(16), world.voucher(16));
    let (request, pending) = batch(&current_key(&http, issuer.url()).await, 16);
    let answer = send(&http, issuer.url(), &first, request.to_bytes()).await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(world.vouchers_left(), 16);
    let answer = send(&http, issuer.url(), &second, request.to_bytes()).await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(world.vouchers_left(), 0);

    world.issuer_command(&["voucher", "revoke", &first]);
    let answer = send(&http, issuer.url(), &first, request.to_bytes()).await.unwrap();
    let answer = answer.error_for_status().unwrap().bytes().await.unwrap();
    let tokens = pending.finalize(&AmortizedBatchTokenResponse::from_bytes(&answer).unwrap());
    let (relay, cell) = (world.start_relay(), cell("paid for"));
    let authorization = bound(&tokens.unwrap()[7], &cell);
    assert_eq!(post(&http, relay.url(), &authorization, &cell).await.unwrap().status(), 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_once_never_overspend_a_voucher() {
    let world = World::default();
    let (issuer, http, voucher) = (world.start_issuer(), http_client(), world.voucher(500));
    let key = current_key(&http, issuer.url()).await;
    let mut tasks = JoinSet::new();
    for _ in 0..64 {
        let (http, url, voucher) = (http.clone(), issuer.url().to_owned(), voucher.clone());
        let (request, pending) = batch(&key, 16);
        tasks.spawn(async move {
            let answer = send(&http, &url, &voucher, request.to_bytes()).await.unwrap();
            if answer.status().as_u16() == 403 {
                let problem: Problem = answer.json().await.unwrap();
                assert_eq!(problem.urn, "urn:tocyn:problem:voucher-exhausted");
                assert_eq!(problem.balance, Some(500 % 16));
                return 0;
            }
            let answer = answer.error_for_status().unwrap().bytes().await.unwrap();
            let response = AmortizedBatchTokenResponse::from_bytes(&answer).unwrap();
            pending.finalize(&response).unwrap().len()
        });
    }
    let tokens = tasks.join_all().await;
    assert_eq!(tokens.iter().filter(|tokens| **tokens == 16).count(), 500 / 16);
    assert_eq!(tokens.iter().sum::<usize>(), 500 - 500 % 16);
    assert_eq!(world.vouchers_left(), 500 % 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn single_requests_do_not_wait_for_the_end_of_a_flood_of_large_ones() {
    const FLOOD: usize = 48;
    const SINGLES: usize = 8;
    let world = World::default();
    let (issuer, http) = (world.start_issuer(), http_client());
    let voucher = world.voucher(3 * 512 + SINGLES as u64);
    let key = current_key(&http, issuer.url()).await;
    // Repeats take as long to evaluate as what they repeat.
    let large: Vec<_> = (0..3).map(|_| batch(&key, 512).0.to_bytes()).collect();
    let single: Vec<_> = (0..SINGLES).map(|_| batch(&key, 1).0.to_bytes()).collect();
    let ask = |body: &Vec<u8>| {
        let (http, url, voucher) = (http.clone(), issuer.url().to_owned(), voucher.clone());
        let body = body.clone();
        async move {
            let answer = send(&http, &url, &voucher, body).await.unwrap();
            answer.error_for_status().unwrap().bytes().await.unwrap().len()
        }
    };
    let answered = Arc::new(AtomicUsize::new(0));
    let mut flood = JoinSet::new();
    for i in 0..FLOOD {
        let (asked, answered) = (ask(&large[i % large.len()]), answered.clone());
        flood.spawn(async move {
            asked.await;
            answered.fetch_add(1, Ordering::SeqCst);
        });
    }
    flood.join_next().await.unwrap().unwrap();
    let mut singles = JoinSet::new();
    single.iter().for_each(|body| drop(singles.spawn(ask(body))));
    assert_eq!(singles.join_all().await.len(), SINGLES);
    let before = answered.load(Ordering::SeqCst);
    assert!(before < FLOOD, "all large requests were answered before the last single one");
    flood.join_all().await;
    assert_eq!(answered.load(Ordering::SeqCst), FLOOD);
    assert_eq!(world.vouchers_left(), 0);
}
