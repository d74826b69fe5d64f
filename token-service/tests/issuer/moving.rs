//! An issuer moves from SQLite to PostgreSQL.

use sqlx::Connection;
use tocyn_issuer::database::Database;
use tocyn_issuer::store::{Charge, Copying, Refusal, Store};

use crate::fixture::{On, RULES, VOUCHER, charge, charge_one, database};

const REVOKED: [u8; 32] = [2; 32];

async fn move_to(store: &Store, target: &Database) -> Copying {
    let Database::Postgres(server) = target else { panic!("asked for PostgreSQL") };
    store.move_to(server, 9).await.unwrap()
}

/// Takes the mark away, as if the process had died before it was made.
async fn unmark(database: &Database) {
    let Database::Sqlite(path) = database else { panic!("asked for SQLite") };
    let url = format!("sqlite://{}", path.display());
    let mut db = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("DELETE FROM moved").execute(&mut db).await.unwrap();
}

#[tokio::test]
async fn vouchers_and_charges_go_on_in_the_other_database_and_nowhere_else() {
    let ((_dir, file), (_other_dir, target)) = (database(On::Sqlite), database(On::Postgres));
    let store = Store::open(&file).await.unwrap();
    store.create_vouchers(&[VOUCHER, REVOKED], 100, 1000).await.unwrap();
    assert_eq!(charge_one(&store, charge(1, 16), RULES, 1).await, Ok(5));
    store.revoke_voucher(&REVOKED, 7).await.unwrap();
    let before = store.list_vouchers().await.unwrap();
    let Copying::Done(copied) = move_to(&store, &target).await else { panic!("it is not done") };
    assert_eq!((copied.vouchers, copied.charges), (2, 1));
    store.close().await;
    let refused = Store::open(&file).await.err().unwrap().to_string();
    assert!(
        refused.contains("moved to PostgreSQL") && refused.contains("database.url"),
        "{refused}"
    );

    let moved = Store::open(&target).await.unwrap();
    assert_eq!(moved.list_vouchers().await.unwrap(), before);
    assert_eq!(charge_one(&moved, charge(1, 16), RULES, 2).await, Ok(5), "a repeat");
    assert_eq!(charge_one(&moved, charge(2, 16), RULES, 2).await, Ok(5));
    assert_eq!(moved.list_vouchers().await.unwrap()[0].balance, 68);
    let on_revoked = Charge { code_hash: REVOKED, ..charge(3, 1) };
    assert_eq!(charge_one(&moved, on_revoked, RULES, 2).await, Err(Refusal::Revoked));
    assert!(moved.check().await.unwrap().is_empty());
    let stats = moved.stats().await.unwrap();
    assert_eq!((stats.vouchers, stats.granted, stats.left, stats.charges), (2, 200, 168, 2));
}

#[tokio::test]
async fn a_move_that_a_crash_cut_short_is_finished_and_no_other_database_is_overwritten() {
    let ((_dir, file), (_other_dir, target)) = (database(On::Sqlite), database(On::Postgres));
    let store = Store::open(&file).await.unwrap();
    store.create_vouchers(&[VOUCHER], 100, 1000).await.unwrap();
    let Copying::Done(copied) = move_to(&store, &target).await else { panic!("it is not done") };
    unmark(&file).await;
    assert_eq!(move_to(&store, &target).await, Copying::DoneBefore(copied));
    unmark(&file).await;
    let moved = Store::open(&target).await.unwrap();
    assert_eq!(charge_one(&moved, charge(1, 16), RULES, 1).await, Ok(5));
    assert_eq!(move_to(&store, &target).await, Copying::NotEmpty);
    assert_eq!(Store::open(&file).await.unwrap().list_vouchers().await.unwrap()[0].balance, 100);
}
