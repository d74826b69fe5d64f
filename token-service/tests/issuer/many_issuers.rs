//! Several issuers with the same vouchers, on PostgreSQL.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use getrandom::SysRng;
use rand_core::UnwrapErr;
use sqlx::Connection;
use tocyn_issuer::attester::Attester;
use tocyn_issuer::store::{Charge, Refusal, Rules, Store, StoreError};
use tocyn_protocol::pairing::Pairing;
use tocyn_service::database::Database;
use tocyn_test_postgres::Postgres;
use tokio::task::JoinSet;

use crate::fixture::{On, RULES, VOUCHER, charge, charge_one, database};

fn pairing() -> Pairing {
    Pairing::generate("issuer", "relay", 0, 100, &mut UnwrapErr(SysRng)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_charged_once_among_all_issuers_and_nothing_is_overspent() {
    let (_dir, database) = database(On::Postgres);
    let other: [u8; 32] = [2; 32];
    let mut stores = Vec::new();
    for _ in 0..3 {
        stores.push(Store::open(&database).await.unwrap());
    }
    stores[0].create_vouchers(&[VOUCHER, other], Attester::Voucher, 400, 1000).await.unwrap();
    let rules = Rules { max_replays: 1000, ..RULES };
    let mut tasks = JoinSet::new();
    for task in 0..30u8 {
        let store = stores[usize::from(task) % 3].clone();
        tasks.spawn(async move {
            // Every body comes at each issuer; the vouchers in turn come first.
            let mut charges: Vec<Charge> = (0..12u8)
                .map(|n| {
                    let body = (task / 3) * 6 + n;
                    let code_hash = if body % 2 == 0 { VOUCHER } else { other };
                    Charge { code_hash, ..charge(body, 13) }
                })
                .collect();
            if task % 2 == 0 {
                charges.reverse();
            }
            let outcomes = store.charge_batch(&charges, rules, 1).await.unwrap();
            charges.into_iter().zip(outcomes).collect::<Vec<_>>()
        });
    }
    let outcomes = tasks.join_all().await.concat();
    for (place, code_hash) in [VOUCHER, other].into_iter().enumerate() {
        let of_voucher = outcomes.iter().filter(|(charge, _)| charge.code_hash == code_hash);
        let paid: BTreeSet<[u8; 32]> = of_voucher
            .clone()
            .filter(|(_, outcome)| outcome.is_ok())
            .map(|(charge, _)| charge.body_hash)
            .collect();
        assert_eq!(paid.len(), 400 / 13, "as many as there is money for");
        let left = stores[1].list_vouchers().await.unwrap()[place].balance;
        assert_eq!(left, 400 % 13);
        for (charge, outcome) in of_voucher {
            let expected = match paid.contains(&charge.body_hash) {
                true => Ok(5),
                false => Err(Refusal::Exhausted(left)),
            };
            assert_eq!(*outcome, expected);
        }
    }
    assert!(stores[2].check().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_issuer_that_is_stopped_in_a_transaction_holds_others_up_for_a_moment_only() {
    let (_dir, database) = database(On::Postgres);
    let store = Store::open(&database).await.unwrap();
    store.create_vouchers(&[VOUCHER], Attester::Voucher, 100, 1000).await.unwrap();
    let Database::Postgres(server) = &database else { panic!("asked for PostgreSQL") };
    let mut stopped = sqlx::PgConnection::connect_with(server).await.unwrap();
    // What a store begins a charge with; then its process gets no more time.
    sqlx::raw_sql(
        "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '2s';
         SELECT * FROM vouchers FOR UPDATE",
    )
    .execute(&mut stopped)
    .await
    .unwrap();
    let since = Instant::now();
    assert_eq!(charge_one(&store, charge(1, 16), RULES, 1).await, Ok(5));
    assert!(since.elapsed() > Duration::from_secs(1), "it waited");
    // When it goes on, its transaction is gone.
    assert!(sqlx::raw_sql("COMMIT").execute(&mut stopped).await.is_err());
    assert_eq!(store.list_vouchers().await.unwrap()[0].balance, 84);
}

#[tokio::test]
async fn an_issuer_with_the_old_pairing_charges_nothing_and_never_comes_back() {
    let (_dir, database) = database(On::Postgres);
    let (old, new) = (Store::open(&database).await.unwrap(), Store::open(&database).await.unwrap());
    let old_pairing = pairing();
    let new_pairing = old_pairing.successor(1, &mut UnwrapErr(SysRng)).unwrap();
    old.create_vouchers(&[VOUCHER], Attester::Voucher, 100, 1000).await.unwrap();
    old.bind(&old_pairing).await.unwrap();
    assert_eq!(charge_one(&old, charge(1, 16), RULES, 1).await, Ok(5));
    new.bind(&new_pairing).await.unwrap();
    for refused in [
        old.ping().await,
        old.charge_batch(&[charge(2, 16)], RULES, 1).await.map(drop),
        old.prune(9).await.map(drop),
    ] {
        assert!(matches!(refused, Err(StoreError::PairingReplaced)), "{refused:?}");
    }
    assert_eq!(charge_one(&new, charge(2, 16), RULES, 1).await, Ok(5));
    let back = Store::open(&database).await.unwrap().bind(&old_pairing).await;
    assert!(back.unwrap_err().to_string().contains("was replaced before"));
    new.bind(&new_pairing).await.unwrap();
}

#[tokio::test]
async fn an_issuer_with_the_keys_of_before_a_planned_renewal_charges_nothing() {
    let (_dir, database) = database(On::Postgres);
    let (old, new) = (Store::open(&database).await.unwrap(), Store::open(&database).await.unwrap());
    let pairing = pairing();
    old.bind(&pairing).await.unwrap();
    old.create_vouchers(&[VOUCHER], Attester::Voucher, 100, 1000).await.unwrap();
    let now = pairing.schedule().genesis;
    new.bind(&pairing.renewed(now, &mut UnwrapErr(SysRng)).unwrap()).await.unwrap();
    for refused in [old.ping().await, old.charge_batch(&[charge(2, 16)], RULES, 1).await.map(drop)]
    {
        assert!(matches!(refused, Err(StoreError::PairingReplaced)), "{refused:?}");
    }
    assert_eq!(charge_one(&new, charge(2, 16), RULES, 1).await, Ok(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_no_charge_that_was_answered_and_is_found_again() {
    // Its owner has asked for fast commits, which would be lost: the issuer waits all the same.
    let server = Postgres::start(&["wal_writer_delay=10s"]);
    let name = server.new_database();
    server.sql("postgres", &format!("ALTER DATABASE {name} SET synchronous_commit = off"));
    let database = Database::parse(&server.url(&name), Default::default()).unwrap();
    let store = Store::open(&database).await.unwrap();
    store.create_vouchers(&[VOUCHER], Attester::Voucher, 1000, 1000).await.unwrap();
    for body in 0..40 {
        if body % 20 == 10 {
            server.kill();
            assert!(store.charge_batch(&[charge(body, 10)], RULES, 1).await.is_err());
            server.restart();
        }
        let since = Instant::now();
        while store.charge_batch(&[charge(body, 10)], RULES, 1).await.is_err() {
            assert!(since.elapsed() < Duration::from_secs(20));
        }
    }
    assert_eq!(store.list_vouchers().await.unwrap()[0].balance, 1000 - 40 * 10);
    for body in 0..40 {
        assert!(store.was_charged(&VOUCHER, &[body; 32]).await.unwrap());
    }
}

#[tokio::test]
async fn charges_by_the_ten_thousand_are_forgotten_in_steps_and_at_once_with_their_pairing() {
    let (_dir, database) = database(On::Postgres);
    let store = Store::open(&database).await.unwrap();
    let pairing = pairing();
    store.bind(&pairing).await.unwrap();
    store.create_vouchers(&[VOUCHER], Attester::Voucher, 100, 1000).await.unwrap();
    let Database::Postgres(server) = &database else { panic!("asked for PostgreSQL") };
    let mut db = sqlx::PgConnection::connect_with(server).await.unwrap();
    let fill = "INSERT INTO charges SELECT id, sha256(int4send(n)), 1 + n % 5, 1, 0, 0
                FROM vouchers, generate_series(1, 25000) AS n";
    sqlx::raw_sql(fill).execute(&mut db).await.unwrap();
    assert_eq!(store.prune(5).await.unwrap(), 20_000);
    assert_eq!(store.stats().await.unwrap().charges, 5_000);
    // An issuer that was stopped in the midst finds a new pairing, with epochs of the same numbers.
    let other = Store::open(&database).await.unwrap();
    other.bind(&pairing.successor(1, &mut UnwrapErr(SysRng)).unwrap()).await.unwrap();
    assert_eq!(other.stats().await.unwrap().charges, 0);
    let early = Rules { oldest_epoch: 0, ..RULES };
    let charge = Charge { epoch: Some(0), ..charge(1, 16) };
    assert_eq!(charge_one(&other, charge, early, 1).await, Ok(0));
    assert!(matches!(store.prune(9).await, Err(StoreError::PairingReplaced)));
    assert_eq!(charge_one(&other, charge, early, 1).await, Ok(0));
    assert_eq!(other.list_vouchers().await.unwrap()[0].balance, 84, "charged once");
}
