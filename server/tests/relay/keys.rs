//! Which pairing may follow another one, and what relays with other keys may do.

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_protocol::log::note::LogKey;
use tocyn_protocol::pairing::Pairing;
use tocyn_relay::config::Config;
use tocyn_relay::log::Log;
use tocyn_relay::store::StoreError;

use crate::fixture::{Fixture, On, on_both, seq};

on_both! {
    a_planned_renewal_whose_keys_are_due_already_is_refused,
    a_planned_renewal_in_time_goes_on,
    a_pairing_that_clients_would_not_take_is_refused,
    a_pairing_from_a_clock_that_is_ahead_is_refused,
}

impl Fixture {
    /// Its pairing, with a planned renewal made in epoch 1: epoch 2, from 200 s on, has new keys.
    async fn renew(&mut self) {
        self.pairing = self.pairing.renewed(150, &mut UnwrapErr(SysRng)).unwrap();
        assert_eq!(self.pairing.renewed_at(), Some(2));
        self.store = self.second_store().await;
    }
}

async fn a_planned_renewal_whose_keys_are_due_already_is_refused(on: On) {
    let mut f = Fixture::new(on).await;
    drop(f.log().await);
    f.store.close().await;
    f.renew().await;
    let refused = f.log_at(&f.store, 200).await.err().expect("it is late").to_string();
    assert!(refused.contains("other keys than statement 0 of keys"), "{refused}");
    assert!(refused.contains("clock (1970-01-01T00:03:20Z)"), "{refused}");
    assert_eq!(f.store.statements().await.unwrap().len(), 1, "nothing is signed");
}

async fn a_planned_renewal_in_time_goes_on(on: On) {
    let mut f = Fixture::new(on).await;
    drop(f.log().await);
    f.store.close().await;
    f.renew().await;
    drop(f.log_at(&f.store, 199).await.unwrap());
    assert_eq!(f.store.statements().await.unwrap().len(), 2);
    // Once it is signed, its epochs may begin.
    drop(f.log_at(&f.store, 250).await.unwrap());
    assert_eq!(f.store.statements().await.unwrap().len(), 2);
}

async fn a_pairing_that_clients_would_not_take_is_refused(on: On) {
    let mut f = Fixture::new(on).await;
    drop(f.log().await);
    f.store.close().await;
    let rng = &mut UnwrapErr(SysRng);
    for pairing in [
        Pairing::generate("other", "relay", 1, 100, rng).unwrap(),
        // As if two issuers had begun at the same second.
        Pairing::generate("issuer", "relay", 0, 200, rng).unwrap(),
    ] {
        f.pairing = pairing.replacing([f.pairing.id()]);
        f.store = f.second_store().await;
        let refused = f.log_at(&f.store, 1).await.err().expect("it is refused").to_string();
        assert!(refused.contains("clients would not take this pairing"), "{refused}");
        assert_eq!(f.store.statements().await.unwrap().len(), 1, "nothing is signed");
        f.store.close().await;
    }
}

/// It would retire the one in use, and the right one after it would be refused as older.
async fn a_pairing_from_a_clock_that_is_ahead_is_refused(on: On) {
    let mut f = Fixture::new(on).await;
    drop(f.log().await);
    f.store.close().await;
    f.pairing = f.pairing.successor(10_000, &mut UnwrapErr(SysRng)).unwrap();
    f.store = f.second_store().await;
    let refused = f.log_at(&f.store, 9_000).await.err().expect("it is ahead").to_string();
    assert!(refused.contains("one of the clocks"), "{refused}");
    drop(f.log_at(&f.store, 9_999).await.unwrap()); // clocks differ a little
}

/// An idle relay hears of what another one has signed when it is asked.
#[tokio::test]
async fn a_relay_shows_the_statements_of_others() {
    let f = Fixture::new(On::Postgres).await;
    let log = f.log().await;
    let other = f.second_store().await;
    let key = LogKey::from_secret_text(&f.log_key).unwrap();
    let addresses = vec!["https://relay.example".parse().unwrap()];
    let config = Config { cell_bytes: 64, addresses, ..Config::default() };
    drop(Log::open(other, key, &f.pairing, &config, 0).await.unwrap());
    assert_eq!(log.statements().notes().len(), 1);
    f.range().await; // as `/v1/info` does
    log.statements().refresh().await.unwrap();
    assert_eq!(log.statements().notes().len(), 2);
}

#[tokio::test]
async fn a_relay_with_the_keys_of_before_a_planned_renewal_stores_nothing() {
    let mut f = Fixture::new(On::Postgres).await;
    drop(f.log().await);
    let (old, paid) = (f.store.clone(), f.posts(0..3));
    f.spend(&paid[..1], 1).await;
    old.ready().await.unwrap();
    f.renew().await;
    // Only when it has signed for its keys do they count.
    assert_eq!(seq(&old.spend_and_append(&paid[1..2], 1).await.unwrap()[0]), Some(2));
    drop(f.log_at(&f.store, 150).await.unwrap());
    for refused in [old.ready().await, old.spend_and_append(&paid[2..], 1).await.map(drop)] {
        assert!(matches!(refused, Err(StoreError::PairingReplaced)), "{refused:?}");
    }
    assert_eq!(f.range().await, (1, 2));
    f.store.ready().await.unwrap();
    assert_eq!(seq(&f.spend(&paid[2..], 1).await[0]), Some(3), "the token is not lost");
}
