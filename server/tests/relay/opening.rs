//! Which files are opened, and how an older one is brought up to date.

use std::borrow::Cow;
use std::os::unix::fs::PermissionsExt;

use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tocyn_protocol::relay::PostReceipt;
use tocyn_relay::store::{SpendOutcome, Store};
use tocyn_service::doctor::Standing;

use crate::fixture::{Fixture, On, log_key, on_both, pairing, renewed, seq};

on_both! {
    another_ones_database_is_left_as_it_is,
    a_database_of_a_newer_relay_is_refused,
    another_cell_size_is_refused,
    whoever_looks_at_a_database_changes_nothing,
}

async fn another_cell_size_is_refused(on: On) {
    let f = Fixture::new(on).await;
    f.store.close().await;
    // Of another pairing too, which must not take the place of the one that is there.
    for pairing in [f.pairing.clone(), pairing()] {
        let error =
            Store::open(&f.database, &pairing, &f.key(), 128).await.err().unwrap().to_string();
        assert!(error.contains("64 bytes") && error.contains("128"), "{error}");
    }
    assert_eq!(f.second_store().await.standing(&f.pairing).await.unwrap(), Standing::InUse);
}

async fn another_ones_database_is_left_as_it_is(on: On) {
    let f = Fixture::new(on).await;
    let paid = f.posts(0..2);
    f.spend(&paid[..1], 1).await;
    f.store.close().await;
    let (next, stranger, other_key) = (renewed(&f.pairing), pairing(), log_key().verifier());
    for (pairing, key, why) in [
        (&f.pairing, &other_key, "is signed with the key"),
        (&next, &other_key, "is signed with the key"),
        (&stranger, &f.key(), "does not name as replaced"),
    ] {
        let error = Store::open(&f.database, pairing, key, 64).await.err().unwrap().to_string();
        assert!(error.contains(why) && error.contains("nothing was changed"), "{error}");
    }
    let store = f.second_store().await;
    assert_eq!(store.standing(&stranger).await.unwrap(), Standing::Foreign);
    assert_eq!(store.standing(&next).await.unwrap(), Standing::Renewed);
    let outcomes = store.spend_and_append(&paid, 2).await.unwrap();
    assert!(matches!(outcomes[0], SpendOutcome::StoredBefore(_)), "{outcomes:?}");
}

async fn a_database_of_a_newer_relay_is_refused(on: On) {
    let f = Fixture::new(on).await;
    f.sql(
        "INSERT INTO _sqlx_migrations SELECT 9999, 'newer', installed_on, success, checksum, 0
           FROM _sqlx_migrations WHERE version = 1",
    )
    .await;
    for refused in [
        Store::open(&f.database, &f.pairing, &f.key(), 64).await.err(),
        Store::look_at(&f.database).await.err(),
        Store::migrate(&f.database).await.err(),
    ] {
        let refused = refused.expect("it is refused").to_string();
        assert!(refused.contains("newer tocyn-relay") && refused.contains("update"), "{refused}");
    }
}

async fn whoever_looks_at_a_database_changes_nothing(on: On) {
    let f = Fixture::new(on).await;
    let paid = f.posts(0..2);
    f.spend(&paid[..1], 1).await;
    let seen = Store::look_at(&f.database).await.unwrap();
    assert!(seen.check().await.unwrap().is_empty());
    let stats = seen.stats().await.unwrap();
    assert_eq!((stats.head, stats.cell_bytes, stats.spent[0].tokens), (1, 64, 1));
    assert!(!Store::migrate(&f.database).await.unwrap(), "they are up to date");
    seen.close().await;
    // The pairing and the spent set are as before.
    assert!(matches!(f.spend(&paid, 2).await[0], SpendOutcome::StoredBefore(_)));
}

#[tokio::test]
async fn a_file_is_made_by_who_serves_or_migrates_and_not_by_who_looks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.sqlite");
    let database = path.as_path().into();
    let refused = Store::look_at(&database).await.err().unwrap().to_string();
    assert!(refused.contains("no relay has served") && !path.exists(), "{refused}");
    assert!(Store::migrate(&database).await.unwrap(), "there was something to do");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let refused = Store::look_at(&database).await.err().unwrap().to_string();
    assert!(refused.contains("no relay has served"), "{refused}");
    Store::open(&database, &pairing(), &log_key().verifier(), 64).await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.sqlite");
    std::fs::write(&path, vec![0x55; 8192]).unwrap();
    let error = Store::open(&path.as_path().into(), &pairing(), &log_key().verifier(), 64)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("relay.sqlite") && error.contains("restore"), "{error}");
}

#[tokio::test]
async fn a_file_with_a_damaged_page_is_refused_and_named() {
    let f = Fixture::new(On::Sqlite).await;
    f.spend(&f.posts(0..100), 1).await;
    f.store.close().await;
    let good = std::fs::read(f.path()).unwrap();
    let mut found = 0;
    for page in 1..good.len() / 4096 {
        let mut bytes = good.clone();
        bytes[page * 4096..][..4096].fill(0x55);
        std::fs::write(f.path(), bytes).unwrap();
        match Store::open(&f.database, &f.pairing, &f.key(), f.cell_bytes).await {
            Ok(store) => store.close().await, // a page that nothing is kept in
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("relay.sqlite") && error.contains("damaged"), "{error}");
                found += 1;
            }
        }
    }
    assert!(found > 60, "{found} of {} pages", good.len() / 4096);
}

/// Makes the database that the first version of the relay made.
async fn first_version(f: &Fixture) -> SqliteConnection {
    f.store.close().await;
    std::fs::remove_file(f.path()).unwrap();
    let options = SqliteConnectOptions::new().filename(f.path()).create_if_missing(true);
    let mut db = SqliteConnection::connect_with(&options).await.unwrap();
    let mut migrator = sqlx::migrate!("./migrations/sqlite");
    migrator.migrations = Cow::Owned(migrator.migrations[..1].to_vec());
    migrator.run(&mut db).await.unwrap();
    sqlx::query("INSERT INTO log VALUES (1, 9, ?1, ?2, 0)")
        .bind(f.cell_bytes as i64)
        .bind(&f.pairing.id().0[..])
        .execute(&mut db)
        .await
        .unwrap();
    db
}

#[tokio::test]
async fn messages_of_the_first_version_are_moved_into_blocks() {
    let mut f = Fixture::new(On::Sqlite).await;
    let mut db = first_version(&f).await;
    let mut expected = Vec::new();
    for seq in 4..=9u64 {
        let mut cell = vec![seq as u8; f.cell_bytes];
        cell[..4].copy_from_slice(&[0, 0xff, 0xc3, 0x28]); // neither text nor free of zeros
        expected.extend(seq.to_be_bytes());
        expected.extend(&cell);
        sqlx::query("INSERT INTO messages VALUES (?1, 7, x'00', ?2)")
            .bind(seq as i64)
            .bind(cell)
            .execute(&mut db)
            .await
            .unwrap();
    }
    db.close().await.unwrap();
    f.reopen().await;
    assert_eq!(f.range().await, (4, 9));
    let page = f.store.read_after(3, 100).await.unwrap().unwrap();
    assert_eq!((page.messages, page.last), (6, 9));
    assert_eq!(page.bytes, expected);
    assert_eq!(seq(&f.spend(&f.posts(0..1), 8).await[0]), Some(10));
    assert_eq!(f.store.trim(0, 8).await.unwrap(), 6, "they have kept their times");
}

#[tokio::test]
async fn tokens_that_were_spent_in_the_first_version_stay_spent() {
    let mut f = Fixture::new(On::Sqlite).await;
    let token = f.token(0);
    let (paid, other) = (f.pay(&token, 0, "paid for"), f.pay(&token, 0, "another"));
    let first = PostReceipt { seq: 9, message_id: paid.1.id(), received_at: 7 };
    let mut db = first_version(&f).await;
    sqlx::query("INSERT INTO spent_0 VALUES (?1, 9, 7, ?2)")
        .bind(&paid.0.spend_key().nonce[..])
        .bind(&paid.1.id().as_bytes()[..])
        .execute(&mut db)
        .await
        .unwrap();
    sqlx::query("UPDATE spent_slots SET epoch = 0 WHERE slot = 0").execute(&mut db).await.unwrap();
    db.close().await.unwrap();
    f.reopen().await;
    let outcomes = f.spend(&[paid, other], 8).await;
    assert_eq!(outcomes, [SpendOutcome::StoredBefore(first), SpendOutcome::SpentOnAnother]);
}
