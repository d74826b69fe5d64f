//! Vouchers under repeats and under many requests at once.

use tocyn_issuer::store::{Charge, Charged, ReplayLimit, Store};

const LIMIT: ReplayLimit = ReplayLimit { max_replays: 3, window_seconds: 100 };
const VOUCHER: [u8; 32] = [1; 32];

async fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("issuer.sqlite")).await.unwrap();
    (dir, store)
}

fn charge(body_hash: &[u8; 32], tokens: usize) -> Charge<'_> {
    Charge { code_hash: &VOUCHER, body_hash, tokens, epoch: Some(5), oldest_epoch: 4 }
}

#[tokio::test]
async fn a_body_is_charged_once_and_its_repeats_are_bounded() {
    let (_dir, store) = store().await;
    store.create_vouchers(&[VOUCHER], 100, 1000).await.unwrap();
    let body = [7; 32];
    for _ in 0..4 {
        let done = store.charge(charge(&body, 16), LIMIT, 10).await.unwrap();
        assert_eq!(done, Charged::Answer(5));
    }
    for now in [11, 50, 109] {
        let done = store.charge(charge(&body, 16), LIMIT, now).await.unwrap();
        assert_eq!(done, Charged::TooManyReplays(110 - now));
    }
    let done = store.charge(charge(&body, 16), LIMIT, 110).await.unwrap();
    assert_eq!(done, Charged::Answer(5));
    assert_eq!(store.list_vouchers().await.unwrap()[0].balance, 84);
}

#[tokio::test]
async fn a_repeat_is_answered_under_the_key_of_then() {
    let (_dir, store) = store().await;
    store.create_vouchers(&[VOUCHER], 100, 20).await.unwrap();
    let body = [7; 32];
    store.charge(charge(&body, 16), LIMIT, 10).await.unwrap();
    store.revoke_voucher(&VOUCHER, 11).await.unwrap();
    let later = Charge { epoch: None, oldest_epoch: 5, ..charge(&body, 16) };
    assert_eq!(store.charge(later, LIMIT, 200).await.unwrap(), Charged::Answer(5));
    let too_late = Charge { oldest_epoch: 6, ..later };
    assert_eq!(store.charge(too_late, LIMIT, 201).await.unwrap(), Charged::UnknownKey);
    assert_eq!(store.prune(5).await.unwrap(), 0);
    assert_eq!(store.prune(6).await.unwrap(), 1);
    // Forgotten charges must not be made again if the clock goes back.
    let again = Charge { epoch: Some(5), oldest_epoch: 4, ..charge(&body, 16) };
    assert_eq!(store.charge(again, LIMIT, 12).await.unwrap(), Charged::UnknownKey);
}

#[tokio::test]
async fn refusals_say_why_and_charge_nothing() {
    let (_dir, store) = store().await;
    let ask = |tokens, now| {
        let store = store.clone();
        async move { store.charge(charge(&[9; 32], tokens), LIMIT, now).await.unwrap() }
    };
    assert_eq!(ask(1, 0).await, Charged::Unknown);
    store.create_vouchers(&[VOUCHER], 20, 1000).await.unwrap();
    assert_eq!(ask(21, 0).await, Charged::Exhausted(20));
    assert_eq!(ask(1, 1000).await, Charged::Expired);
    assert_eq!(store.revoke_voucher(&VOUCHER[..4], 5).await.unwrap(), 1);
    assert_eq!(store.revoke_voucher(&[2; 32], 5).await.unwrap(), 0);
    assert_eq!(ask(1, 0).await, Charged::Revoked);
    assert_eq!(store.list_vouchers().await.unwrap()[0].balance, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_once_never_overspend() {
    let (_dir, store) = store().await;
    store.create_vouchers(&[VOUCHER], 100, 1000).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..60u8 {
        let store = store.clone();
        // Each body comes twice at once.
        tasks.spawn(async move { store.charge(charge(&[i / 2; 32], 7), LIMIT, 1).await.unwrap() });
    }
    let done = tasks.join_all().await;
    let answered = done.iter().filter(|done| **done == Charged::Answer(5)).count();
    assert_eq!(answered, 2 * (100 / 7));
    assert!(done.iter().all(|d| matches!(d, Charged::Answer(5) | Charged::Exhausted(2..=93))));
    assert_eq!(store.list_vouchers().await.unwrap()[0].balance, 100 % 7);
}
