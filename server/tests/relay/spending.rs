//! A token pays once.

use tocyn_protocol::relay::MessageId;
use tocyn_relay::store::{SpendOutcome, Store};

use crate::fixture::{Fixture, On, on_both, seq};

on_both! {
    a_token_pays_once_within_a_batch_and_across_batches,
    large_batches_mix_new_posts_repeats_and_epochs,
    a_batch_may_have_more_posts_than_a_statement_takes,
}

async fn a_token_pays_once_within_a_batch_and_across_batches(on: On) {
    let mut f = Fixture::new(on).await;
    let (a, b) = (f.token(0), f.token(0));
    let batch =
        [f.pay(&a, 0, "one"), f.pay(&a, 0, "one"), f.pay(&a, 0, "two"), f.pay(&b, 0, "one")];
    let done = f.spend(&batch, 7).await;
    let SpendOutcome::Stored(first) = done[0] else { panic!("{done:?}") };
    assert_eq!((first.seq, first.received_at, first.message_id), (1, 7, f.message("one").id()));
    assert_eq!(done[1], SpendOutcome::StoredBefore(first));
    assert_eq!(done[2], SpendOutcome::SpentOnAnother);
    assert_eq!(seq(&done[3]), Some(2), "the same text paid for twice is two messages");
    f.reopen().await;
    let again = f.spend(&batch[..1], 99).await;
    assert_eq!(again, [SpendOutcome::StoredBefore(first)]);
    assert_eq!(f.range().await, (1, 2));
}

async fn large_batches_mix_new_posts_repeats_and_epochs(on: On) {
    let f = Fixture::new(on).await;
    let posts: Vec<_> = (0..150)
        .map(|n| {
            let epoch = n % 2;
            f.pay(&f.token(epoch), epoch, &format!("message {n}"))
        })
        .collect();
    let first = f.spend(&posts[..100], 1).await;
    assert_eq!(first.iter().map(seq).collect::<Vec<_>>(), (1..=100).map(Some).collect::<Vec<_>>());
    let second = f.spend(&posts[50..], 2).await;
    let before: Vec<_> = first[50..].iter().map(seq).collect();
    for (outcome, seq) in second[..50].iter().zip(before) {
        let SpendOutcome::StoredBefore(receipt) = outcome else { panic!("{outcome:?}") };
        assert_eq!((Some(receipt.seq), receipt.received_at), (seq, 1));
    }
    let fresh: Vec<_> = second[50..].iter().map(seq).collect();
    assert_eq!(fresh, (101..=150).map(Some).collect::<Vec<_>>());
    let page = f.store.read_after(0, 1000).await.unwrap().unwrap();
    assert_eq!((page.messages, page.last), (150, 150));
    for (i, (_, message)) in posts.iter().enumerate() {
        let frame = &page.bytes[i * (8 + f.cell_bytes)..][..8 + f.cell_bytes];
        assert_eq!(MessageId::of(&frame[8..]), message.id(), "message {i} is in its place");
    }
}

async fn a_batch_may_have_more_posts_than_a_statement_takes(on: On) {
    let f = Fixture::new(on).await;
    let tokens: Vec<_> = (0..11).flat_map(|_| f.tokens(0, 100)).collect();
    let posts: Vec<_> = tokens.iter().map(|token| f.pay(token, 0, "the same")).collect();
    let first = f.spend(&posts, 1).await;
    assert_eq!(first.iter().map(seq).collect::<Vec<_>>(), (1..=1100).map(Some).collect::<Vec<_>>());
    for (first, again) in first.into_iter().zip(f.spend(&posts, 2).await) {
        let SpendOutcome::Stored(receipt) = first else { panic!("{first:?}") };
        assert_eq!(again, SpendOutcome::StoredBefore(receipt));
    }
    assert_eq!(f.range().await, (1, 1100));
}

#[tokio::test]
async fn the_write_ahead_log_is_shortened_when_it_is_due() {
    let f = Fixture::with_cells_of(On::Sqlite, 65_536).await;
    let Store::Sqlite(store) = &f.store else { panic!("asked for SQLite") };
    let log_bytes = || std::fs::metadata(f.path().with_extension("sqlite-wal")).unwrap().len();
    let mut after_first = 0;
    for round in 0..3 {
        let mut posts = 0;
        while !store.checkpoint_if_due().await.unwrap() {
            let batch: Vec<_> = f
                .tokens(0, 64)
                .iter()
                .map(|token| f.pay(token, 0, &format!("{round} {posts}")))
                .collect();
            let outcomes = f.spend(&batch, 1).await;
            assert!(outcomes.iter().all(|outcome| seq(outcome).is_some()));
            posts += batch.len();
            assert!(posts < 2000, "no checkpoint was due");
        }
        assert!(posts > 500, "one was due after {posts} posts");
        assert!(!store.checkpoint_if_due().await.unwrap(), "it is due once");
        // The log is written from its start again: it does not grow with each round.
        match round {
            0 => after_first = log_bytes(),
            _ => assert!(log_bytes() < after_first * 3 / 2, "{} {after_first}", log_bytes()),
        }
    }
}
