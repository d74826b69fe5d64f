//! Vouchers: how they are charged, and when they are not.

use crate::fixture::{On, RULES, VOUCHER, charge, charge_one, on_both, store};
use tocyn_issuer::attester::Attester;
use tocyn_issuer::store::{Charge, Refusal, Rules};

on_both! {
    a_body_is_charged_once_and_its_repeats_are_bounded,
    a_repeat_is_answered_under_the_key_of_then,
    refusals_say_why_and_charge_nothing,
    a_clock_that_was_ahead_stops_no_repeats,
}

async fn a_body_is_charged_once_and_its_repeats_are_bounded(on: On) {
    let (_dir, store) = store(on).await;
    store.create_vouchers(&[VOUCHER], Attester::Voucher, 100, 1000).await.unwrap();
    let ask = async |now| charge_one(&store, charge(7, 16), RULES, now).await;
    for _ in 0..4 {
        assert_eq!(ask(10).await, Ok(5));
    }
    for now in [11, 50, 109] {
        assert_eq!(ask(now).await, Err(Refusal::TooManyReplays(110 - now)));
    }
    assert_eq!(ask(110).await, Ok(5));
    assert_eq!(store.list_vouchers().await.unwrap()[0].balance, 84);
}

async fn a_repeat_is_answered_under_the_key_of_then(on: On) {
    let (_dir, store) = store(on).await;
    store.create_vouchers(&[VOUCHER], Attester::Voucher, 100, 20).await.unwrap();
    assert_eq!(charge_one(&store, charge(7, 16), RULES, 10).await, Ok(5));
    store.revoke_voucher(&VOUCHER, 11).await.unwrap();
    let later = Charge { epoch: None, ..charge(7, 16) };
    let oldest = |oldest_epoch| Rules { oldest_epoch, ..RULES };
    assert_eq!(charge_one(&store, later, oldest(5), 200).await, Ok(5));
    let too_late = charge_one(&store, later, oldest(6), 201).await;
    assert_eq!(too_late, Err(Refusal::UnknownKey));
    assert_eq!(store.prune(5).await.unwrap(), 0);
    assert_eq!(store.prune(6).await.unwrap(), 1);
    // Forgotten charges must not be made again if the clock goes back.
    let again = charge_one(&store, charge(7, 16), oldest(4), 12).await;
    assert_eq!(again, Err(Refusal::UnknownKey));
}

async fn refusals_say_why_and_charge_nothing(on: On) {
    let (_dir, store) = store(on).await;
    let ask = async |tokens, now| charge_one(&store, charge(9, tokens), RULES, now).await;
    assert_eq!(ask(1, 0).await, Err(Refusal::Unknown));
    store.create_vouchers(&[VOUCHER], Attester::Voucher, 20, 1000).await.unwrap();
    assert_eq!(ask(21, 0).await, Err(Refusal::Exhausted(20)));
    assert_eq!(ask(1, 1000).await, Err(Refusal::Expired));
    let no_key = Charge { epoch: None, ..charge(9, 1) };
    assert_eq!(charge_one(&store, no_key, RULES, 0).await, Err(Refusal::UnknownKey));
    assert_eq!(store.revoke_voucher(&VOUCHER[..4], 5).await.unwrap(), 1);
    assert_eq!(store.revoke_voucher(&[2; 32], 5).await.unwrap(), 0);
    assert_eq!(ask(1, 0).await, Err(Refusal::Revoked));
    assert_eq!(store.list_vouchers().await.unwrap()[0].balance, 20);
}

async fn a_clock_that_was_ahead_stops_no_repeats(on: On) {
    let (_dir, store) = store(on).await;
    store.create_vouchers(&[VOUCHER], Attester::Voucher, 10, 100_000).await.unwrap();
    assert_eq!(charge_one(&store, charge(1, 1), RULES, 10).await, Ok(5));
    assert_eq!(charge_one(&store, charge(1, 1), RULES, 50_000).await, Ok(5));
    for now in [20, 400, 800] {
        for _ in 0..3 {
            assert_eq!(charge_one(&store, charge(1, 1), RULES, now).await, Ok(5));
        }
        let refused = charge_one(&store, charge(1, 1), RULES, now).await;
        assert_eq!(refused, Err(Refusal::TooManyReplays(100)));
    }
}
