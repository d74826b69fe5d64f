//! A relay moves from SQLite to PostgreSQL.

use sqlx::Connection;
use tocyn_relay::seal::seal;
use tocyn_relay::store::{Copying, SpendOutcome, Store};
use tocyn_service::database::Database;
use tocyn_test_postgres::Postgres;

use crate::fixture::{Fixture, On, log_key, pairing, renewed, seq};

/// A log with messages of several epochs, some of them deleted, and a second pairing.
async fn lived_in() -> Fixture {
    let mut f = Fixture::with_cells_of(On::Sqlite, 100).await;
    f.spend(&f.posts(0..40), 1).await;
    f.pairing = renewed(&f.pairing);
    f.reopen().await;
    f.spend(&f.posts(40..60), 2).await;
    f.store.close_epochs_below(1).await.unwrap();
    let later: Vec<_> = f.tokens(1, 30).iter().map(|token| f.pay(token, 1, "later")).collect();
    f.spend(&later, 3).await;
    f.store.trim(30, 0).await.unwrap();
    f
}

fn target() -> Database {
    Database::parse(&Postgres::shared().new_url(), Default::default()).unwrap()
}

async fn move_to(f: &Fixture, target: &Database) -> Copying {
    let Database::Postgres(server) = target else { panic!("asked for PostgreSQL") };
    f.store.move_to(server, 9).await.unwrap()
}

#[tokio::test]
async fn all_of_the_log_goes_on_in_the_other_database_and_nowhere_else() {
    let mut f = lived_in().await;
    let (range, spent) = (f.range().await, f.pay(&f.token(1), 1, "spent before"));
    let receipt = f.spend(std::slice::from_ref(&spent), 4).await[0];
    let closed = f.pay(&f.token(0), 0, "closed");
    let mut before = Vec::new();
    let mut after = range.0 - 1;
    while let Some(page) = f.store.read_after(after, 7).await.unwrap() {
        after = page.last;
        before.extend_from_slice(&page.bytes);
    }

    // Some of the tree is in a tile, and some is not.
    let later: Vec<_> = f.tokens(2, 200).iter().map(|token| f.pay(token, 2, "more")).collect();
    f.spend(&later, 4).await;
    let (log, target) = (f.log().await, target());
    log.put_away().await.unwrap();
    let checkpoint = log.checkpoint().await.unwrap();
    let Copying::Done(copied) = move_to(&f, &target).await else { panic!("it is not done") };
    assert_eq!((copied.messages, copied.spent), (range.1 + 202 - range.0, 231));
    f.store.close().await;
    let error =
        Store::open(&f.database, &f.pairing, &f.key(), 100).await.err().unwrap().to_string();
    assert!(error.contains("moved to PostgreSQL") && error.contains("database.url"), "{error}");

    f.database = target;
    f.store = f.second_store().await;
    assert_eq!(f.range().await, (range.0, range.1 + 201));
    assert_eq!(f.log().await.checkpoint().await.unwrap(), checkpoint);
    let page = f.store.read_after(0, range.1 + 2 - range.0).await.unwrap().unwrap();
    assert_eq!(page.bytes, before);
    let SpendOutcome::Stored(receipt) = receipt else { panic!("{receipt:?}") };
    let again = f.spend(&[spent, closed], 5).await;
    assert_eq!(again, [SpendOutcome::StoredBefore(receipt), SpendOutcome::EpochClosed]);
    assert_eq!(seq(&f.spend(&[f.pay(&f.token(1), 1, "new")], 5).await[0]), Some(range.1 + 202));
    assert!(f.store.check().await.unwrap().is_empty());
    assert_eq!(f.numbers("SELECT count(*) FROM retired_pairings").await, [1]);
}

#[tokio::test]
async fn a_move_that_was_cut_short_is_finished_and_nobody_serves_both_sides() {
    let f = lived_in().await;
    let (target, other) = (target(), target());
    // Cut short before the target's commit: the mark is there, the target is empty.
    let Database::Postgres(server) = &target else { panic!("asked for PostgreSQL") };
    let mut waits = sqlx::PgConnection::connect_with(server).await.unwrap();
    Store::migrate(&target).await.unwrap();
    sqlx::raw_sql(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE 'the disk is gone'; END $$;
         CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON blocks DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION fail()",
    )
    .execute(&mut waits)
    .await
    .unwrap();
    assert!(f.store.move_to(server, 9).await.is_err());
    sqlx::raw_sql("DROP TRIGGER fail ON blocks").execute(&mut waits).await.unwrap();
    let error =
        Store::open(&f.database, &f.pairing, &f.key(), 100).await.err().unwrap().to_string();
    assert!(error.contains("run the same `db copy` again"), "{error}");
    let Copying::Elsewhere(first) = move_to(&f, &other).await else { panic!("to two places") };
    assert_eq!(first, target.to_string());
    let Copying::Done(copied) = move_to(&f, &target).await else { panic!("it is not done") };
    // After the commit the target has it all.
    assert_eq!(move_to(&f, &target).await, Copying::DoneBefore(copied));
    let moved = Store::open(&target, &f.pairing, &f.key(), 100).await.unwrap();
    moved.spend_and_append(&[f.pay(&f.token(2), 2, "gone on")], 1).await.unwrap();
    assert_eq!(move_to(&f, &target).await, Copying::GoneOn);
    assert!(Store::open(&f.database, &f.pairing, &f.key(), 100).await.is_err());
}

#[tokio::test]
async fn a_log_of_others_is_not_overwritten() {
    let (f, target) = (lived_in().await, target());
    let theirs = Store::open(&target, &pairing(), &log_key().verifier(), 100).await.unwrap();
    assert_eq!(move_to(&f, &target).await, Copying::NotEmpty);
    theirs.ready().await.unwrap();
    assert_eq!(f.numbers("SELECT count(*) FROM moved").await, [0], "it may be served on");
}

#[tokio::test]
async fn sealed_messages_stay_in_their_files_and_are_not_lost() {
    let mut f = Fixture::with_cells_of(On::Sqlite, 100).await;
    let posts: Vec<_> = f.tokens(0, 700).iter().map(|token| f.pay(token, 0, "message")).collect();
    for commit in posts.chunks(100) {
        f.spend(commit, 1).await;
    }
    f.store.trim(150, 0).await.unwrap();
    f.log().await.put_away().await.unwrap();
    let messages = f.messages().await;
    assert_eq!(seal(&messages, &|_| ()).await.unwrap(), 1);
    let before = messages.read_after(300, 9999).await.unwrap().unwrap();
    let target = target();
    let Copying::Done(copied) = move_to(&f, &target).await else { panic!("it is not done") };
    assert_eq!((copied.messages, copied.spent), (600, 700));
    f.store.close().await;
    f.database = target;
    f.store = f.second_store().await;
    assert_eq!(f.range().await, (101, 700));
    let refused = f.messages_in(&f.store, None).await.err().unwrap().to_string();
    assert!(refused.contains("257 to 512") && refused.contains("log.folder"), "{refused}");
    let messages = f.messages().await;
    assert_eq!(messages.read_after(300, 9999).await.unwrap().unwrap().bytes, before.bytes);
    assert_eq!(f.store.check().await.unwrap(), [""; 0]);
}
