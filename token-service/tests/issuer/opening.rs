//! Which databases are opened, and which pairings come back.

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_issuer::attester::Attester;
use tocyn_issuer::store::Store;
use tocyn_protocol::pairing::Pairing;
use tocyn_service::database::Database;
use tocyn_service::doctor::Standing;
use tocyn_test_postgres::Postgres;

use crate::fixture::{On, RULES, VOUCHER, charge, charge_one, database, on_both};

on_both! {
    another_ones_database_is_left_as_it_is,
    a_new_pairing_forgets_the_charges_and_an_old_one_stays_away,
    what_is_wrong_is_found,
}

async fn a_new_pairing_forgets_the_charges_and_an_old_one_stays_away(on: On) {
    let (_dir, database) = database(on);
    let rng = &mut UnwrapErr(SysRng);
    let first = Pairing::generate("issuer", "relay", 0, 100, rng).unwrap();
    let second = first.successor(1, rng).unwrap();
    let open = async || Store::open(&database).await.unwrap();
    let store = open().await;
    store.bind(&first).await.unwrap();
    store.create_vouchers(&[VOUCHER], Attester::Voucher, 100, 1000).await.unwrap();
    assert_eq!(charge_one(&store, charge(1, 16), RULES, 1).await, Ok(5));
    store.close().await;
    open().await.bind(&first).await.unwrap();
    let store = open().await;
    store.bind(&second).await.unwrap();
    assert!(!store.was_charged(&VOUCHER, &[1; 32]).await.unwrap());
    assert_eq!(store.list_vouchers().await.unwrap()[0].balance, 84);
    store.close().await;
    let back = open().await.bind(&first).await.unwrap_err().to_string();
    assert!(back.contains("was replaced before"), "{back}");
    open().await.bind(&second).await.unwrap();
}

async fn another_ones_database_is_left_as_it_is(on: On) {
    let (_dir, database) = database(on);
    let rng = &mut UnwrapErr(SysRng);
    let mut pairing = |issuer, relay| Pairing::generate(issuer, relay, 0, 100, rng).unwrap();
    let own = pairing("issuer", "relay");
    let strangers =
        [("issuer", "relay"), ("other", "relay"), ("issuer", "other")].map(|(i, r)| pairing(i, r));
    let store = Store::open(&database).await.unwrap();
    assert_eq!(store.standing(&own).await.unwrap(), Standing::Unused);
    store.bind(&own).await.unwrap();
    store.create_vouchers(&[VOUCHER], Attester::Voucher, 100, 1000).await.unwrap();
    assert_eq!(charge_one(&store, charge(1, 16), RULES, 1).await, Ok(5));
    for stranger in &strangers {
        assert_eq!(store.standing(stranger).await.unwrap(), Standing::Foreign);
        let refused = store.bind(stranger).await.unwrap_err().to_string();
        assert!(refused.contains("nothing was changed"), "{refused}");
    }
    // Other names stay away though the pairing claims to replace this one.
    let claims = strangers[1].clone().replacing([own.id()]);
    let refused = store.bind(&claims).await.unwrap_err().to_string();
    assert!(refused.contains("belongs to issuer issuer for origin relay"), "{refused}");
    assert!(store.was_charged(&VOUCHER, &[1; 32]).await.unwrap());
    store.bind(&own).await.unwrap();
}

async fn what_is_wrong_is_found(on: On) {
    let (_dir, database) = database(on);
    let store = Store::open(&database).await.unwrap();
    store.create_vouchers(&[VOUCHER], Attester::Voucher, 100, 1000).await.unwrap();
    assert_eq!(charge_one(&store, charge(1, 16), RULES, 1).await, Ok(5));
    assert!(store.check().await.unwrap().is_empty());
    let wrong = "UPDATE vouchers SET balance = 90";
    match &database {
        Database::Sqlite(path) => {
            let url = format!("sqlite://{}", path.display());
            let mut db = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.unwrap();
            sqlx::raw_sql(wrong).execute(&mut db).await.unwrap();
        }
        Database::Postgres(server) => {
            let connect = <sqlx::PgConnection as sqlx::Connection>::connect_with(server);
            sqlx::raw_sql(wrong).execute(&mut connect.await.unwrap()).await.unwrap();
        }
    }
    let faults = store.check().await.unwrap();
    assert_eq!(faults, ["1 vouchers were charged for fewer tokens than their requests asked for"]);
}

async fn refusal(url: &str) -> String {
    let database = Database::parse(url, Default::default()).unwrap();
    Store::open(&database).await.err().expect("it is refused").to_string()
}

#[tokio::test]
async fn servers_that_cannot_be_used_are_named_with_what_to_do() {
    let server = Postgres::shared();
    let nobody = refusal("postgres://me:secret@127.0.0.1:1/tocyn").await;
    assert!(nobody.contains("127.0.0.1:1") && !nobody.contains("secret"), "{nobody}");
    let newer = server.new_database();
    let database = Database::parse(&server.url(&newer), Default::default()).unwrap();
    Store::open(&database).await.unwrap().close().await;
    server.sql(&newer, "INSERT INTO _sqlx_migrations SELECT 9999, 'newer', now(), true, '', 0");
    let reason = refusal(&server.url(&newer)).await;
    assert!(reason.contains("newer tocyn-issuer"), "{reason}");
    let careless = Postgres::start(&["full_page_writes=off"]);
    let reason = refusal(&careless.new_url()).await;
    assert!(reason.contains("full_page_writes = on"), "{reason}");
}

#[tokio::test]
async fn issuers_that_start_together_on_an_empty_database_make_its_tables_once() {
    let (_dir, database) = database(On::Postgres);
    let (a, b, c) =
        tokio::join!(Store::open(&database), Store::open(&database), Store::open(&database));
    for store in [a, b, c] {
        store.unwrap().ping().await.unwrap();
    }
}
