//! Several relays with one log, on PostgreSQL.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use sqlx::Connection;
use tocyn_relay::head::Head;
use tocyn_relay::store::{SpendOutcome, Store, StoreError};
use tocyn_service::database::Database;

use crate::fixture::{Fixture, On, renewed, seq};

#[tokio::test(flavor = "multi_thread")]
async fn appends_at_once_are_dense_and_a_token_pays_once_among_all_relays() {
    let f = Fixture::new(On::Postgres).await;
    let stores = [f.store.clone(), f.second_store().await, f.second_store().await];
    // Each token is posted at every relay: with one message at two, with another at the third.
    let tokens: Vec<_> = (0..4).flat_map(|_| f.tokens(0, 50)).collect();
    let posts = |store: usize| {
        let text = if store == 2 { "other" } else { "same" };
        let pay = |(n, token)| f.pay(token, 0, &format!("{text} {n}"));
        tokens.iter().enumerate().map(pay).collect::<Vec<_>>()
    };
    let run = async |store: usize| {
        let mut outcomes = Vec::new();
        for batch in posts(store).chunks(7 + store) {
            outcomes.extend(stores[store].spend_and_append(batch, 1 + store as u64).await.unwrap());
        }
        outcomes
    };
    let outcomes = tokio::join!(run(0), run(1), run(2));
    let outcomes = [outcomes.0, outcomes.1, outcomes.2];
    let mut sequences = BTreeMap::new();
    for token in 0..tokens.len() {
        let of_token = outcomes.each_ref().map(|of_store| of_store[token]);
        let stored: Vec<_> = of_token.iter().filter_map(SpendOutcome::stored_seq).collect();
        let [stored] = stored[..] else { panic!("token {token} paid for {stored:?}") };
        sequences.insert(stored, token);
        let other_paid = seq(&of_token[2]).is_some();
        for (store, outcome) in of_token.iter().enumerate() {
            match outcome {
                SpendOutcome::Stored(receipt) | SpendOutcome::StoredBefore(receipt) => {
                    assert_eq!((receipt.seq, store == 2), (stored, other_paid));
                }
                SpendOutcome::SpentOnAnother => assert_ne!(store == 2, other_paid),
                SpendOutcome::EpochClosed => panic!("no epoch is closed"),
            }
        }
    }
    let dense: BTreeSet<u64> = (1..=200).collect();
    assert_eq!(sequences.into_keys().collect::<BTreeSet<_>>(), dense);
    assert_eq!(f.range().await, (1, 200));
    assert!(f.store.check().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_at_one_relay_gets_what_is_posted_at_another() {
    let f = Fixture::new(On::Postgres).await;
    let (here, head) = (f.second_store().await, Head::default());
    let mut newest = head.subscribe();
    let watching = tokio::spawn({
        let here = here.clone();
        async move { here.work_forever(head).await }
    });
    let (mut after, mut read) = (0, Vec::new());
    for n in 0..20 {
        f.spend(&f.posts(n * 5..n * 5 + 5), 1).await;
        newest.wait_for(|head| head.is_some_and(|head| head > after)).await.unwrap();
        while let Some(page) = here.read_after(after, u64::MAX).await.unwrap() {
            after = page.last;
            read.extend_from_slice(&page.bytes);
        }
    }
    newest.wait_for(|head| *head == Some(100)).await.unwrap();
    assert_eq!(after, 100);
    let (mut all, mut from) = (Vec::new(), 0);
    while let Some(page) = f.second_store().await.read_after(from, u64::MAX).await.unwrap() {
        from = page.last;
        all.extend_from_slice(&page.bytes);
    }
    assert!(read == all);
    watching.abort();
}

#[tokio::test]
async fn the_end_of_the_log_is_read_from_memory_and_goes_with_the_others() {
    let f = Fixture::new(On::Postgres).await;
    f.spend(&f.posts(0..3), 1).await;
    let first = f.store.read_after(0, 9).await.unwrap().unwrap();
    f.sql("UPDATE blocks SET cells = decode(repeat('00', 3 * 64), 'hex')").await;
    assert_eq!(f.store.read_after(0, 9).await.unwrap().unwrap().bytes, first.bytes);
    assert_ne!(f.second_store().await.read_after(0, 9).await.unwrap().unwrap().bytes, first.bytes);
    f.spend(&f.posts(3..5), 1).await;
    let next = f.store.read_after(3, 9).await.unwrap().unwrap();
    assert_eq!((next.messages, next.last), (2, 5));
    assert_eq!(f.store.trim(4, 0).await.unwrap(), 3);
    let jump = f.store.read_after(0, 9).await.unwrap().unwrap();
    assert_eq!((jump.messages, jump.last), (2, 5), "1 to 3 are gone from memory too");
}

#[tokio::test]
async fn a_relay_with_the_old_pairing_can_spend_nothing_and_never_come_back() {
    let mut f = Fixture::new(On::Postgres).await;
    let old = f.store.clone();
    let paid = f.posts(0..2);
    f.spend(&paid[..1], 1).await;
    let old_pairing = f.pairing.clone();
    f.pairing = renewed(&f.pairing);
    f.store = f.second_store().await;
    for refused in [
        old.spend_and_append(&paid[1..], 1).await.map(drop),
        old.close_epochs_below(9).await.map(drop),
        old.prepare_epochs(&[7]).await,
    ] {
        assert!(matches!(refused, Ok(()) | Err(StoreError::PairingReplaced)), "{refused:?}");
    }
    assert!(matches!(old.spend_and_append(&paid[1..], 1).await, Err(StoreError::PairingReplaced)));
    assert!(matches!(old.ready().await, Err(StoreError::PairingReplaced)));
    f.store.ready().await.unwrap();
    assert_eq!(f.range().await, (1, 1));
    let error =
        Store::open(&f.database, &old_pairing, &f.key(), 64).await.err().unwrap().to_string();
    assert!(error.contains("was replaced before"), "{error}");
    assert_eq!(seq(&f.spend(&f.posts(2..3), 1).await[0]), Some(2));
}

#[tokio::test]
async fn a_log_that_went_back_takes_no_posts() {
    let f = Fixture::new(On::Postgres).await;
    let posts = f.posts(0..3);
    f.spend(&posts[..2], 1).await;
    // As a server that was restored from a backup, or a standby that lagged when it took over.
    f.sql("DELETE FROM blocks; DELETE FROM spent; UPDATE log SET head = 1").await;
    for _ in 0..2 {
        let refused = f.store.spend_and_append(&posts[2..], 1).await;
        assert!(matches!(refused, Err(StoreError::WentBack)), "{refused:?}");
    }
    // Nor does it go on reading from what it remembers of the other log.
    assert!(matches!(f.store.read_after(0, 9).await, Err(StoreError::WentBack)));
    assert!(matches!(f.store.range().await, Err(StoreError::WentBack)));
    assert!(matches!(f.store.ready().await, Err(StoreError::WentBack)));
}

#[tokio::test]
async fn a_log_that_went_back_and_grew_again_is_found_out_and_all_relays_stop() {
    let mut f = Fixture::new(On::Postgres).await;
    let (posts, other) = (f.posts(0..6), f.second_store().await);
    f.spend(&posts[..2], 1).await;
    // The other relay knows of neither message that is lost, and posts until the log is longer.
    f.sql("DELETE FROM blocks; DELETE FROM leaves; DELETE FROM spent; UPDATE log SET head = 0")
        .await;
    other.spend_and_append(&posts[2..5], 1).await.unwrap();
    let refused = f.store.range().await;
    assert!(matches!(refused, Err(StoreError::WentBack)), "{refused:?}");
    for refused in [
        f.store.spend_and_append(&posts[5..], 1).await.map(drop),
        other.spend_and_append(&posts[5..], 1).await.map(drop),
        other.ready().await,
        other.read_after(0, 9).await.map(drop),
        Store::open(&f.database, &f.pairing, &f.key(), 64).await.map(drop),
    ] {
        assert!(matches!(refused, Err(StoreError::WentBack)), "{refused:?}");
    }
    f.pairing = renewed(&f.pairing);
    f.store = f.second_store().await;
    assert_eq!(seq(&f.spend(&f.posts(6..7), 1).await[0]), Some(4), "a new pairing goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_log_that_went_back_is_cut_off() {
    let f = Fixture::new(On::Postgres).await;
    f.spend(&f.posts(0..3), 1).await;
    f.store.read_after(0, 9).await.unwrap().unwrap();
    let (store, head) = (f.store.clone(), Head::default());
    let mut newest = head.subscribe();
    let watching = tokio::spawn(async move { store.work_forever(head).await });
    newest.wait_for(|head| *head == Some(3)).await.unwrap();
    f.sql("DELETE FROM blocks; UPDATE log SET head = 0").await;
    newest.changed().await.unwrap();
    assert!(matches!(f.store.read_after(3, 9).await, Err(StoreError::WentBack)));
    watching.abort();
}

#[tokio::test]
async fn a_lock_that_somebody_else_keeps_is_a_busy_database_and_nothing_is_lost() {
    let f = Fixture::new(On::Postgres).await;
    let Database::Postgres(server) = &f.database else { panic!("asked for PostgreSQL") };
    let mut other = sqlx::PgConnection::connect_with(server).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT * FROM log FOR UPDATE").execute(&mut other).await.unwrap();
    let posts = f.posts(0..2);
    let refused = f.store.spend_and_append(&posts, 1).await;
    assert!(matches!(refused, Err(StoreError::Busy)), "{refused:?}");
    drop(other);
    assert_eq!(seq(&f.spend(&posts, 1).await[1]), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_is_dropped_between_posts_of_the_next() {
    let f = Fixture::new(On::Postgres).await;
    let other = f.second_store().await;
    f.spend(&f.posts(0..50), 1).await;
    let next: Vec<_> = f.tokens(1, 100).iter().map(|t| f.pay(t, 1, "next")).collect();
    let post = async |store: &Store, posts: &[_]| {
        for one in posts {
            let outcome = store.spend_and_append(std::slice::from_ref(one), 2).await.unwrap();
            assert!(seq(&outcome[0]).is_some());
        }
    };
    let close = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        join_all([f.store.close_epochs_below(1), other.close_epochs_below(1)]).await
    };
    let (_, _, closed) =
        tokio::join!(post(&f.store, &next[..50]), post(&other, &next[50..]), close);
    assert!(closed.iter().all(Result::is_ok), "{closed:?}");
    assert_eq!(f.numbers("SELECT count(*) FROM spent").await, [100]);
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'spent'::regclass";
    assert_eq!(f.numbers(partitions).await, [1]);
}

/// Whoever drops a closed epoch's set, as retention does, waits for whom holds advisory lock 1.
const HOLD_DROPS: &str = "
    CREATE FUNCTION hold() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
        IF current_setting('lock_timeout') IN ('100ms', '1500ms') THEN
            PERFORM pg_advisory_xact_lock(1);
        END IF;
    END $$;
    CREATE EVENT TRIGGER hold ON ddl_command_start WHEN TAG IN ('DROP TABLE') EXECUTE FUNCTION hold()";

#[tokio::test(flavor = "multi_thread")]
async fn who_was_stopped_before_it_dropped_an_epoch_leaves_that_of_a_new_pairing_alone() {
    let mut f = Fixture::new(On::Postgres).await;
    f.sql(HOLD_DROPS).await;
    f.spend(&f.posts(0..1), 1).await;
    let Database::Postgres(server) = &f.database else { panic!("asked for PostgreSQL") };
    let mut holder = sqlx::PgConnection::connect_with(server).await.unwrap();
    sqlx::raw_sql("SELECT pg_advisory_lock(1)").execute(&mut holder).await.unwrap();
    let old = f.store.clone();
    let dropping = tokio::spawn(async move { old.close_epochs_below(1).await });
    while f.numbers("SELECT closed_below FROM log").await != [1] {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    f.pairing = renewed(&f.pairing);
    f.store = f.second_store().await;
    let paid = f.posts(1..3);
    f.spend(&paid, 1).await;
    sqlx::raw_sql("SELECT pg_advisory_unlock(1)").execute(&mut holder).await.unwrap();
    let dropped = dropping.await.unwrap();
    assert!(matches!(dropped, Err(StoreError::PairingReplaced)), "{dropped:?}");
    let again = f.spend(&paid, 2).await;
    assert!(again.iter().all(|o| matches!(o, SpendOutcome::StoredBefore(_))), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_set_that_somebody_reads_is_closed_now_and_dropped_later() {
    let f = Fixture::new(On::Postgres).await;
    let old = f.posts(0..2);
    f.spend(&old[..1], 1).await;
    let Database::Postgres(server) = &f.database else { panic!("asked for PostgreSQL") };
    let mut backup = sqlx::PgConnection::connect_with(server).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT count(*) FROM spent_0").execute(&mut backup).await.unwrap();
    assert!(f.store.close_epochs_below(1).await.unwrap().is_empty());
    // As long as it is there, it answers retries.
    let late = f.spend(&old, 1).await;
    assert!(matches!(late[..], [SpendOutcome::StoredBefore(_), SpendOutcome::EpochClosed]));
    assert_eq!(seq(&f.spend(&[f.pay(&f.token(1), 1, "next")], 1).await[0]), Some(2));
    drop(backup);
    assert_eq!(f.store.close_epochs_below(1).await.unwrap(), [0]);
}
