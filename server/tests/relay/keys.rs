//! Which pairing may follow another one, and what relays with other keys may do.

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_relay::store::StoreError;

use crate::fixture::{Fixture, On, on_both, seq};

on_both! {
    a_planned_renewal_whose_keys_are_due_already_is_refused,
    a_planned_renewal_in_time_goes_on,
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
    assert!(refused.contains("other keys for epochs that have begun"), "{refused}");
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
