//! Epochs close, and pairings are replaced.

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection};
use tocyn_protocol::redemption::Redeemed;
use tocyn_relay::store::{Message, SpendOutcome};

use crate::fixture::{Fixture, On, on_both, renewed, seq};

on_both! {
    an_epoch_is_dropped_whole_and_stays_closed,
    a_closed_epoch_in_a_batch_stops_none_of_the_others,
    room_that_was_made_ahead_is_used_and_closed_like_any,
    a_new_pairing_starts_with_an_empty_spent_set_and_keeps_the_messages,
}

#[tokio::test]
async fn a_batch_over_three_epochs_closes_the_one_that_makes_room() {
    let f = Fixture::new(On::Sqlite).await;
    let old = f.pay(&f.token(0), 0, "old");
    assert_eq!(seq(&f.spend(std::slice::from_ref(&old), 1).await[0]), Some(1));
    // Epoch 3 takes the table of epoch 0, whatever the order within the batch.
    let batch = [old, f.pay(&f.token(3), 3, "new"), f.pay(&f.token(2), 2, "between")];
    let done = f.spend(&batch, 2).await;
    assert_eq!(done[0], SpendOutcome::EpochClosed);
    assert_eq!((seq(&done[1]), seq(&done[2])), (Some(2), Some(3)));
}

async fn an_epoch_is_dropped_whole_and_stays_closed(on: On) {
    let f = Fixture::new(on).await;
    let old = f.token(0);
    let paid = [f.pay(&old, 0, "old")];
    f.spend(&paid, 1).await;
    assert_eq!(f.store.close_epochs_below(1).await.unwrap(), [0]);
    assert!(f.store.close_epochs_below(1).await.unwrap().is_empty(), "once");
    assert_eq!(seq(&f.spend(&[f.pay(&f.token(3), 3, "new")], 2).await[0]), Some(2));
    assert_eq!(f.spend(&paid, 3).await, [SpendOutcome::EpochClosed]);
    // Even if the clock goes back: what was forgotten cannot be told from what was not spent.
    assert_eq!(f.store.close_epochs_below(4).await.unwrap(), [3]);
    assert_eq!(f.spend(&paid, 3).await, [SpendOutcome::EpochClosed]);
    let late = [f.pay(&f.token(2), 2, "late")];
    assert_eq!(f.spend(&late, 3).await, [SpendOutcome::EpochClosed]);
    assert_eq!(seq(&f.spend(&[f.pay(&f.token(4), 4, "go on")], 4).await[0]), Some(3));
}

async fn a_closed_epoch_in_a_batch_stops_none_of_the_others(on: On) {
    let f = Fixture::new(on).await;
    let (first, old) = (f.pay(&f.token(1), 1, "first"), f.pay(&f.token(0), 0, "old"));
    f.spend(&[first.clone(), old.clone()], 1).await;
    f.store.close_epochs_below(1).await.unwrap();
    let new = f.pay(&f.token(1), 1, "new");
    let done = f.spend(&[old, first.clone(), new], 2).await;
    assert_eq!((done[0], seq(&done[2])), (SpendOutcome::EpochClosed, Some(3)));
    assert!(matches!(done[1], SpendOutcome::StoredBefore(receipt) if receipt.seq == 1));
}

async fn room_that_was_made_ahead_is_used_and_closed_like_any(on: On) {
    let f = Fixture::new(on).await;
    for _ in 0..2 {
        f.store.prepare_epochs(&[0, 1, 2]).await.unwrap();
    }
    let paid = [f.pay(&f.token(1), 1, "paid")];
    assert_eq!(seq(&f.spend(&paid, 1).await[0]), Some(1));
    f.store.close_epochs_below(2).await.unwrap();
    // What is closed is not made again.
    f.store.prepare_epochs(&[0, 1, 2]).await.unwrap();
    assert_eq!(f.spend(&paid, 2).await, [SpendOutcome::EpochClosed]);
    assert_eq!(seq(&f.spend(&[f.pay(&f.token(2), 2, "next")], 3).await[0]), Some(2));
}

async fn a_new_pairing_starts_with_an_empty_spent_set_and_keeps_the_messages(on: On) {
    let mut f = Fixture::new(on).await;
    let token = f.token(5);
    f.spend(&[f.pay(&token, 5, "before")], 1).await;
    f.pairing = renewed(&f.pairing);
    f.reopen().await;
    assert_eq!(seq(&f.spend(&[f.pay(&f.token(0), 0, "after")], 2).await[0]), Some(2));
    assert_eq!(f.range().await, (1, 2));
}

async fn database(f: &Fixture) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(f.path());
    SqliteConnection::connect_with(&options).await.unwrap()
}

/// How many nonces stand in the tables of slot 0.
async fn spent_in_slot_0(f: &Fixture) -> i64 {
    let (mut db, mut rows) = (database(f).await, 0);
    for part in 0..16 {
        let count = AssertSqlSafe(format!("SELECT count(*) FROM spent_0_{part:x}"));
        rows += sqlx::query_scalar::<_, i64>(count).fetch_one(&mut db).await.unwrap();
    }
    rows
}

/// Spends 60 tokens of epoch 0, then leaves the database as a crash in the middle of the
/// epoch's drop does: closed, and some of its tables still full.
async fn half_dropped(f: &mut Fixture) -> Vec<(Redeemed, Message)> {
    let paid = f.posts(0..60);
    f.spend(&paid, 1).await;
    assert_eq!(spent_in_slot_0(f).await, 60);
    f.store.close().await;
    let mut db = database(f).await;
    sqlx::query("UPDATE log SET closed_below = 1").execute(&mut db).await.unwrap();
    for part in 0..4 {
        let empty = AssertSqlSafe(format!("DELETE FROM spent_0_{part:x}"));
        sqlx::query(empty).execute(&mut db).await.unwrap();
    }
    db.close().await.unwrap();
    f.reopen().await;
    assert!(spent_in_slot_0(f).await > 0);
    paid
}

#[tokio::test]
async fn a_drop_that_a_crash_cut_short_is_finished_and_takes_no_token_meanwhile() {
    let mut f = Fixture::new(On::Sqlite).await;
    let paid = half_dropped(&mut f).await;
    let next = [f.pay(&f.token(1), 1, "the epoch after")];
    f.spend(&next, 2).await;
    assert_eq!(f.spend(&paid, 3).await, [SpendOutcome::EpochClosed; 60]);
    assert_eq!(f.store.close_epochs_below(1).await.unwrap(), [0]);
    assert_eq!(spent_in_slot_0(&f).await, 0);
    assert!(f.store.close_epochs_below(1).await.unwrap().is_empty(), "once");
    assert_eq!(f.spend(&paid, 4).await, [SpendOutcome::EpochClosed; 60]);
    assert!(matches!(f.spend(&next, 4).await[0], SpendOutcome::StoredBefore(_)));
}

#[tokio::test]
async fn an_epoch_that_needs_the_slot_before_it_is_empty_empties_it() {
    let mut f = Fixture::new(On::Sqlite).await;
    half_dropped(&mut f).await;
    let newer = [f.pay(&f.token(3), 3, "takes the slot of epoch 0")];
    assert_eq!(f.spend(&newer, 2).await[0].stored_seq(), Some(61));
    assert_eq!(spent_in_slot_0(&f).await, 1);
    assert!(f.store.close_epochs_below(1).await.unwrap().is_empty());
    assert!(matches!(f.spend(&newer, 3).await[0], SpendOutcome::StoredBefore(_)));
}

#[tokio::test]
async fn a_drop_in_progress_spares_the_epoch_that_takes_the_slot() {
    for _ in 0..5 {
        let mut f = Fixture::new(On::Sqlite).await;
        half_dropped(&mut f).await;
        let newer: Vec<_> = (0..30).map(|n| f.pay(&f.token(3), 3, &n.to_string())).collect();
        let post = async {
            for one in newer.chunks(1) {
                f.spend(one, 2).await;
            }
        };
        let (dropped, ()) = tokio::join!(f.store.close_epochs_below(1), post);
        assert_eq!(dropped.unwrap(), [0]);
        assert_eq!(spent_in_slot_0(&f).await, 30);
        let again = f.spend(&newer, 3).await;
        assert!(again.iter().all(|one| matches!(one, SpendOutcome::StoredBefore(_))));
    }
}
