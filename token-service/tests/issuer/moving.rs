//! An issuer moves from SQLite to PostgreSQL.

use sqlx::Connection;
use tocyn_issuer::attester::Attester;
use tocyn_issuer::store::{Charge, Copying, Refusal, Store, StoreError};
use tocyn_service::database::Database;

use crate::fixture::{On, RULES, VOUCHER, charge, charge_one, database};

const REVOKED: [u8; 32] = [2; 32];

async fn move_to(store: &Store, target: &Database) -> Copying {
    let Database::Postgres(server) = target else { panic!("asked for PostgreSQL") };
    store.move_to(server, 9).await.unwrap()
}

#[tokio::test]
async fn vouchers_and_charges_go_on_in_the_other_database_and_nowhere_else() {
    let ((_dir, file), (_other_dir, target)) = (database(On::Sqlite), database(On::Postgres));
    let store = Store::open(&file).await.unwrap();
    store.create_vouchers(&[VOUCHER, REVOKED], Attester::Voucher, 100, 1000).await.unwrap();
    assert_eq!(charge_one(&store, charge(1, 16), RULES, 1).await, Ok(5));
    store.revoke_voucher(&REVOKED, 7).await.unwrap();
    store.note_settled(77).await.unwrap();
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
    assert_eq!(moved.settled_at().await.unwrap(), Some(77));
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
async fn a_move_that_was_cut_short_is_finished_and_nobody_serves_both_sides() {
    let ((_dir, file), (_other_dir, target)) = (database(On::Sqlite), database(On::Postgres));
    let (store, beside) = (Store::open(&file).await.unwrap(), Store::open(&file).await.unwrap());
    store.create_vouchers(&[VOUCHER], Attester::Voucher, 100, 1000).await.unwrap();
    // Cut short at the target's commit: the mark is there, the target is empty.
    let Database::Postgres(server) = &target else { panic!("asked for PostgreSQL") };
    Store::open(&target).await.unwrap().close().await;
    let mut db = sqlx::PgConnection::connect_with(server).await.unwrap();
    sqlx::raw_sql(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE 'the disk is gone'; END $$;
         CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON vouchers DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION fail()",
    )
    .execute(&mut db)
    .await
    .unwrap();
    assert!(store.move_to(server, 9).await.is_err());
    sqlx::raw_sql("DROP TRIGGER fail ON vouchers").execute(&mut db).await.unwrap();
    let refused = Store::open(&file).await.err().unwrap().to_string();
    assert!(refused.contains("run the same `db copy` again"), "{refused}");
    // A command that had it open already changes nothing any more.
    for refused in [
        beside.create_vouchers(&[REVOKED], Attester::Voucher, 1, 1000).await,
        beside.revoke_voucher(&VOUCHER, 7).await.map(drop),
    ] {
        assert!(matches!(refused, Err(StoreError::Moved)), "{refused:?}");
    }
    let (_third_dir, other) = database(On::Postgres);
    let Copying::Elsewhere(first) = move_to(&store, &other).await else { panic!("two places") };
    assert_eq!(first, target.to_string());
    let Copying::Done(copied) = move_to(&store, &target).await else { panic!("it is not done") };
    assert_eq!(move_to(&store, &target).await, Copying::DoneBefore(copied));
    let moved = Store::open(&target).await.unwrap();
    assert_eq!(charge_one(&moved, charge(1, 16), RULES, 1).await, Ok(5));
    assert_eq!(move_to(&store, &target).await, Copying::GoneOn);
    assert!(Store::open(&file).await.is_err());
}

#[tokio::test]
async fn vouchers_of_others_are_not_overwritten() {
    let ((_dir, file), (_other_dir, target)) = (database(On::Sqlite), database(On::Postgres));
    let (store, theirs) = (Store::open(&file).await.unwrap(), Store::open(&target).await.unwrap());
    theirs.create_vouchers(&[REVOKED], Attester::Voucher, 7, 1000).await.unwrap();
    assert_eq!(move_to(&store, &target).await, Copying::NotEmpty);
    store.create_vouchers(&[VOUCHER], Attester::Voucher, 100, 1000).await.unwrap();
    assert_eq!(theirs.list_vouchers().await.unwrap()[0].granted, 7);
}
