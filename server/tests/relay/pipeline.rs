//! Posts on their way: in batches with others, within bounds, and past a bug.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::join_all;
use tocyn_protocol::redemption::Authorization;
use tocyn_protocol::token::Token;
use tocyn_relay::Clock;
use tocyn_relay::epochs::Epochs;
use tocyn_relay::head::Head;
use tocyn_relay::metrics::Metrics;
use tocyn_relay::pipeline::Pipeline;
use tocyn_relay::relay::{PostError, Posted};
use tokio::sync::watch;

use crate::fixture::{Fixture, On, on_both};

on_both! {
    posts_at_once_are_each_stored_once_and_readers_are_told,
    a_post_without_a_place_is_refused_at_once,
    a_panic_fails_the_posts_that_it_meets_and_no_others,
    a_writer_that_ends_is_noticed,
}

/// A pipeline with so many places, and what it tells readers.
async fn start(
    f: &Fixture,
    max_posts: usize,
    clock: Clock,
) -> (Pipeline, watch::Receiver<Option<u64>>) {
    let epochs = Arc::new(Epochs::new(f.pairing.clone()));
    let head = Head::default();
    let seen = head.subscribe();
    let log = Arc::new(f.log().await);
    (
        Pipeline::start(max_posts, epochs, f.store.clone(), log, clock, head, Metrics::default()),
        seen,
    )
}

async fn post(f: &Fixture, pipeline: &Pipeline, token: &Token) -> Result<Posted, PostError> {
    pipeline.post(Authorization::Bearer(token.clone()), f.message("a message")).await
}

async fn posts_at_once_are_each_stored_once_and_readers_are_told(on: On) {
    let f = Fixture::new(on).await;
    let (pipeline, head) = start(&f, 300, Arc::new(|| 7)).await;
    let tokens: Vec<_> = (0..3).flat_map(|_| f.tokens(0, 100)).collect();
    let posts = join_all(tokens.iter().map(|token| post(&f, &pipeline, token))).await;
    let mut sequences = Vec::new();
    for posted in &posts {
        let Ok(Posted::New(proven)) = posted else { panic!("{posted:?}") };
        sequences.push(proven.receipt.seq);
    }
    sequences.sort_unstable();
    assert_eq!(sequences, Vec::from_iter(1..=300));
    assert_eq!(*head.borrow(), Some(300));
    let again = join_all(tokens.iter().map(|token| post(&f, &pipeline, token))).await;
    for (first, again) in posts.into_iter().zip(again) {
        let (Ok(Posted::New(first)), Ok(Posted::Before(before))) = (first, again) else { panic!() };
        assert_eq!(first.receipt, before);
    }
    assert_eq!(f.range().await, (1, 300));
}

async fn a_post_without_a_place_is_refused_at_once(on: On) {
    let f = Fixture::new(on).await;
    // The clock stands still, and with it the threads, until the test lets go.
    let (standing, stand) = std::sync::mpsc::channel::<()>();
    let stand = Mutex::new(stand);
    let clock: Clock = Arc::new(move || {
        let _ = stand.lock().unwrap().recv();
        7
    });
    let (pipeline, _) = start(&f, 2, clock).await;
    let tokens = f.tokens(0, 3);
    let mut waiting: Vec<_> =
        tokens[..2].iter().map(|t| Box::pin(post(&f, &pipeline, t))).collect();
    for post in &mut waiting {
        assert!(post.now_or_never().is_none());
    }
    assert!(matches!(post(&f, &pipeline, &tokens[2]).await, Err(PostError::Busy)));
    drop(standing);
    for posted in join_all(waiting).await {
        assert!(matches!(posted, Ok(Posted::New(_))), "{posted:?}");
    }
    let posted = post(&f, &pipeline, &tokens[2]).await;
    assert!(matches!(posted, Ok(Posted::New(_))), "{posted:?}");
}

async fn a_panic_fails_the_posts_that_it_meets_and_no_others(on: On) {
    // The first time that is asked for is for verifying, the second for the commit.
    for bad_call in 0..2 {
        let f = Fixture::new(on).await;
        let calls = AtomicUsize::new(0);
        let clock: Clock = Arc::new(move || {
            assert_ne!(calls.fetch_add(1, Ordering::SeqCst), bad_call, "the test wants a panic");
            7
        });
        let (pipeline, _) = start(&f, 1, clock).await;
        let token = f.token(0);
        assert!(matches!(post(&f, &pipeline, &token).await, Err(PostError::Internal)));
        assert_eq!(f.range().await, (1, 0), "nothing was stored");
        let posted = post(&f, &pipeline, &token).await;
        assert!(matches!(posted, Ok(Posted::New(_))), "{posted:?}");
    }
}

/// Panics again when the caught panic is dropped: nothing else ends the writer.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "the test ends the writer");
    }
}

async fn a_writer_that_ends_is_noticed(on: On) {
    let f = Fixture::new(on).await;
    let calls = AtomicUsize::new(0);
    let clock: Clock = Arc::new(move || {
        // The first time is for verifying, the second for the commit.
        if calls.fetch_add(1, Ordering::SeqCst) == 1 {
            std::panic::panic_any(Bomb);
        }
        7
    });
    let (pipeline, _) = start(&f, 1, clock).await;
    assert!(pipeline.is_alive() && pipeline.ended().now_or_never().is_none());
    let token = f.token(0);
    assert!(matches!(post(&f, &pipeline, &token).await, Err(PostError::Internal)));
    pipeline.ended().await;
    assert!(!pipeline.is_alive());
    assert!(matches!(post(&f, &pipeline, &token).await, Err(PostError::Internal)));
    assert_eq!(f.range().await, (1, 0), "nothing was stored");
}
