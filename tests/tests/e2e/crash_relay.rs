//! The relay dies in a storm of posts; every receipt that it gave holds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use tocyn_e2e::bearer::{bound, buy, cell, http_client, post, read_all};
use tocyn_e2e::service::Service;
use tocyn_e2e::world::World;
use tocyn_protocol::relay::{MessageId, PostReceipt};
use tokio::task::JoinSet;

const POSTERS: usize = 8;
const POSTS: usize = 512;
const KILLS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_a_storm_it_keeps_every_message_that_it_acknowledged_and_spends_no_token_twice() {
    let world = World::default();
    let http = http_client();
    let issuer = world.start_issuer();
    let tokens = buy(&http, issuer.url(), &world.voucher(POSTS as u64), POSTS).await;
    let mut relay = world.start_relay();
    let (address, url) = (relay.address().to_owned(), relay.url().to_owned());

    let done = Arc::new(AtomicUsize::new(0));
    let mut posters = JoinSet::new();
    for (poster, tokens) in tokens.chunks(POSTS / POSTERS).enumerate() {
        let (tokens, url, http, done) = (tokens.to_vec(), url.clone(), http.clone(), done.clone());
        posters.spawn(async move {
            let mut receipts: Vec<PostReceipt> = Vec::new();
            for (n, token) in tokens.iter().enumerate() {
                let cell = cell(&format!("poster {poster}, message {n}"));
                // Sends the same bytes until there is a receipt, as the client does.
                let receipt = loop {
                    let answer = post(&http, &url, &bound(token, &cell), &cell).await;
                    let body = match answer {
                        Ok(answer) if answer.status().is_success() => answer.bytes().await,
                        Ok(answer) => panic!("refused: {}", answer.text().await.unwrap()),
                        Err(error) => Err(error),
                    };
                    match body {
                        Ok(body) => break serde_json::from_slice(&body).unwrap(),
                        Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                    }
                };
                receipts.push(receipt);
                done.fetch_add(1, Ordering::Relaxed);
            }
            receipts
        });
    }
    // A kill after every so many receipts, so that each one falls into the storm.
    for kill in 1..=KILLS {
        while done.load(Ordering::Relaxed) < kill * POSTS / (KILLS + 2) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let more = UnwrapErr(SysRng).next_u32() % 10;
        tokio::time::sleep(Duration::from_millis(more.into())).await;
        relay.kill();
        relay = Service::start_at("tocyn-relay", &world.relay_data(), &address);
    }
    let receipts: Vec<PostReceipt> = posters.join_all().await.concat();

    let stored = read_all(&http, &url).await;
    let sequences: Vec<u64> = stored.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(sequences, (1..=POSTS as u64).collect::<Vec<_>>(), "dense, one for each token");
    let log: HashMap<u64, MessageId> =
        stored.iter().map(|(seq, cell)| (*seq, MessageId::of(cell))).collect();
    for receipt in &receipts {
        assert_eq!(log.get(&receipt.seq), Some(&receipt.message_id), "a receipt holds");
    }
    assert_eq!(log.values().collect::<HashSet<_>>().len(), POSTS, "no message twice");
    assert_eq!(relay.stop().code(), Some(0));
}
