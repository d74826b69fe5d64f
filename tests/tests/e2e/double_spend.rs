//! One token pays for one message, however often and with whatever it is posted.

use tocyn_e2e::bearer::{bound, buy, cell, http_client, post, read_all};
use tocyn_e2e::world::World;
use tocyn_protocol::problem::Problem;
use tocyn_protocol::relay::{MessageId, PostReceipt};
use tocyn_protocol::token::Token;
use tokio::task::JoinSet;

const POSTS: usize = 100;

/// A world with both services, and one token.
async fn one_token(world: &World) -> (tocyn_e2e::service::Service, reqwest::Client, Token) {
    let http = http_client();
    let issuer = world.start_issuer();
    let token = buy(&http, issuer.url(), &world.voucher(16), 16).await.remove(0);
    (world.start_relay(), http, token)
}

/// Posts all at once; gives status and body of each answer.
async fn storm(
    http: &reqwest::Client,
    relay_url: &str,
    posts: Vec<(String, Vec<u8>)>,
) -> Vec<(u16, Vec<u8>)> {
    let mut tasks = JoinSet::new();
    for (authorization, cell) in posts {
        let (http, url) = (http.clone(), relay_url.to_owned());
        tasks.spawn(async move {
            let answer = post(&http, &url, &authorization, &cell).await.unwrap();
            (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
        });
    }
    tasks.join_all().await
}

fn with_status(answers: &[(u16, Vec<u8>)], status: u16) -> Vec<&[u8]> {
    answers.iter().filter(|(s, _)| *s == status).map(|(_, body)| body.as_slice()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_posted_100_times_at_once_is_stored_once_with_one_receipt() {
    let world = World::default();
    let (relay, http, token) = one_token(&world).await;
    let cell = cell("only once");
    let posts = vec![(bound(&token, &cell), cell.clone()); POSTS];
    let answers = storm(&http, relay.url(), posts).await;

    let (created, repeated) = (with_status(&answers, 201), with_status(&answers, 200));
    assert_eq!((created.len(), repeated.len()), (1, POSTS - 1));
    let first: PostReceipt = serde_json::from_slice(created[0]).unwrap();
    assert_eq!((first.seq, first.message_id), (1, MessageId::of(&cell)));
    assert!(repeated.iter().all(|body| *body == created[0]), "receipts differ");
    assert_eq!(read_all(&http, relay.url()).await, [(1, cell)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_on_100_messages_at_once_pays_for_one() {
    let world = World::default();
    let (relay, http, token) = one_token(&world).await;
    let cells: Vec<_> = (0..POSTS).map(|n| cell(&format!("message {n}"))).collect();
    let posts = cells.iter().map(|cell| (bound(&token, cell), cell.clone())).collect();
    let answers = storm(&http, relay.url(), posts).await;

    let (created, refused) = (with_status(&answers, 201), with_status(&answers, 409));
    assert_eq!((created.len(), refused.len()), (1, POSTS - 1));
    for body in refused {
        let problem: Problem = serde_json::from_slice(body).unwrap();
        assert_eq!(problem.urn, "urn:tocyn:problem:token-spent");
    }
    let receipt: PostReceipt = serde_json::from_slice(created[0]).unwrap();
    let stored = read_all(&http, relay.url()).await;
    assert_eq!(stored.len(), 1);
    assert_eq!((stored[0].0, MessageId::of(&stored[0].1)), (receipt.seq, receipt.message_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bearer_form_and_the_bound_form_spend_the_same_token() {
    let world = World::default();
    let (relay, http, token) = one_token(&world).await;
    let (first, other) = (cell("first"), cell("other"));
    let status = async |authorization: &str, cell: &[u8]| {
        post(&http, relay.url(), authorization, cell).await.unwrap().status().as_u16()
    };
    assert_eq!(status(&token.header_value(), &first).await, 201);
    assert_eq!(status(&bound(&token, &first), &first).await, 200);
    assert_eq!(status(&bound(&token, &other), &other).await, 409);
    assert_eq!(status(&token.header_value(), &other).await, 409);
    assert_eq!(read_all(&http, relay.url()).await, [(1, first)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_token_stays_spent_when_the_relay_starts_again() {
    let world = World::default();
    let (relay, http, token) = one_token(&world).await;
    let (first, other) = (cell("first"), cell("other"));
    let answer = post(&http, relay.url(), &bound(&token, &first), &first).await.unwrap();
    let receipt = answer.bytes().await.unwrap();
    assert_eq!(relay.stop().code(), Some(0));

    let relay = world.start_relay();
    let again = post(&http, relay.url(), &bound(&token, &first), &first).await.unwrap();
    assert_eq!(again.status().as_u16(), 200);
    assert_eq!(again.bytes().await.unwrap(), receipt);
    let spent = post(&http, relay.url(), &bound(&token, &other), &other).await.unwrap();
    assert_eq!(spent.status().as_u16(), 409);
}
