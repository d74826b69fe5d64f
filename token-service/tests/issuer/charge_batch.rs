//! Many charges in one transaction: each has the outcome that it would have alone, in order.

use std::collections::BTreeSet;

use crate::fixture::{On, RULES, VOUCHER, charge, charge_one, database, on_both, store};
use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use tocyn_issuer::attester::Attester;
use tocyn_issuer::store::{Charge, Refusal, Rules, Store};

on_both! {
    no_charges_are_no_work,
    the_same_body_twice_is_one_charge_and_one_repeat,
    a_repeat_goes_under_the_key_of_the_charge_earlier_in_the_batch,
    a_voucher_runs_out_in_the_middle_of_a_batch,
    every_outcome_in_one_batch,
    what_was_answered_is_on_disk,
    when_the_database_fails_nothing_of_a_batch_is_charged,
    batches_at_once_never_overspend,
    a_batch_has_the_outcomes_that_its_charges_have_one_by_one,
}

const OTHER: [u8; 32] = [2; 32];

async fn balances(store: &Store) -> Vec<u64> {
    store.list_vouchers().await.unwrap().iter().map(|row| row.balance).collect()
}

fn of(code_hash: [u8; 32], charge: Charge) -> Charge {
    Charge { code_hash, ..charge }
}

async fn no_charges_are_no_work(on: On) {
    let (_dir, store) = store(on).await;
    assert_eq!(store.charge_batch(&[], RULES, 1).await.unwrap(), []);
}

async fn the_same_body_twice_is_one_charge_and_one_repeat(on: On) {
    let (_dir, store) = store(on).await;
    store.create_vouchers(&[VOUCHER, OTHER], Attester::Voucher, 20, 1000).await.unwrap();
    let batch = [charge(7, 16), charge(7, 16), of(OTHER, charge(7, 16)), charge(7, 16)];
    assert_eq!(store.charge_batch(&batch, RULES, 10).await.unwrap(), [Ok(5); 4]);
    assert_eq!(balances(&store).await, [4, 4]);
    // Two of the three repeats are used up on the first voucher, none on the other.
    let more = [charge(7, 16), charge(7, 16), of(OTHER, charge(7, 16))];
    let wait = Err(Refusal::TooManyReplays(90));
    assert_eq!(store.charge_batch(&more, RULES, 20).await.unwrap(), [Ok(5), wait, Ok(5)]);
    assert_eq!(charge_one(&store, charge(7, 16), RULES, 110).await, Ok(5));
    assert_eq!(balances(&store).await, [4, 4]);
}

async fn a_repeat_goes_under_the_key_of_the_charge_earlier_in_the_batch(on: On) {
    let (_dir, store) = store(on).await;
    store.create_vouchers(&[VOUCHER], Attester::Voucher, 20, 1000).await.unwrap();
    let batch = [charge(7, 16), Charge { epoch: Some(6), ..charge(7, 16) }];
    assert_eq!(store.charge_batch(&batch, RULES, 10).await.unwrap(), [Ok(5); 2]);
    let without_key = Charge { epoch: None, ..charge(7, 16) };
    assert_eq!(charge_one(&store, without_key, RULES, 11).await, Ok(5));
}

async fn a_voucher_runs_out_in_the_middle_of_a_batch(on: On) {
    let (_dir, store) = store(on).await;
    store.create_vouchers(&[VOUCHER, OTHER], Attester::Voucher, 100, 1000).await.unwrap();
    let batch = [
        charge(1, 60),
        charge(2, 50),
        of(OTHER, charge(2, 50)),
        charge(3, 40),
        charge(4, 1),
        charge(1, 60),
    ];
    let outcomes = store.charge_batch(&batch, RULES, 1).await.unwrap();
    let exhausted = |left| Err(Refusal::Exhausted(left));
    assert_eq!(outcomes, [Ok(5), exhausted(40), Ok(5), Ok(5), exhausted(0), Ok(5)]);
    assert_eq!(balances(&store).await, [0, 50]);
    // What was refused was not remembered as charged.
    assert_eq!(charge_one(&store, charge(2, 50), RULES, 1).await, exhausted(0));
    assert_eq!(charge_one(&store, charge(3, 40), RULES, 1).await, Ok(5));
}

async fn every_outcome_in_one_batch(on: On) {
    let (_dir, store) = store(on).await;
    let (revoked, expired, of_nobody) = ([3; 32], [4; 32], [5; 32]);
    store.create_vouchers(&[VOUCHER, revoked], Attester::Voucher, 100, 1000).await.unwrap();
    store.create_vouchers(&[expired], Attester::Voucher, 100, 50).await.unwrap();
    let paid = [charge(1, 10), of(revoked, charge(1, 10)), of(expired, charge(1, 10))];
    assert_eq!(store.charge_batch(&paid, RULES, 10).await.unwrap(), [Ok(5); 3]);
    let closed = Charge { epoch: Some(4), ..charge(2, 10) };
    let forgotten = charge_one(&store, closed, RULES, 10).await;
    assert_eq!(forgotten, Ok(4));
    assert_eq!(store.prune(5).await.unwrap(), 1);
    store.revoke_voucher(&revoked, 60).await.unwrap();

    let batch = [
        charge(3, 10),                              // new
        charge(1, 10),                              // a repeat
        of(revoked, charge(3, 10)),                 // new, on a revoked voucher
        of(revoked, charge(1, 10)),                 // paid for before it was revoked
        of(expired, charge(3, 10)),                 // new, on an expired voucher
        of(expired, charge(1, 10)),                 // paid for before it expired
        of(of_nobody, charge(3, 10)),               // no such voucher
        Charge { epoch: None, ..charge(4, 10) },    // no such key
        Charge { epoch: Some(4), ..charge(5, 10) }, // a closed epoch
        charge(6, 71),                              // too many
        charge(6, 70),                              // the very last ones
    ];
    let outcomes = store.charge_batch(&batch, RULES, 60).await.unwrap();
    let expected = [
        Ok(5),
        Ok(5),
        Err(Refusal::Revoked),
        Ok(5),
        Err(Refusal::Expired),
        Ok(5),
        Err(Refusal::Unknown),
        Err(Refusal::UnknownKey),
        Err(Refusal::UnknownKey),
        Err(Refusal::Exhausted(70)),
        Ok(5),
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(balances(&store).await, [0, 90, 90]);
}

async fn what_was_answered_is_on_disk(on: On) {
    let (_dir, database) = database(on);
    let first = Store::open(&database).await.unwrap();
    first.create_vouchers(&[VOUCHER], Attester::Voucher, 100, 1000).await.unwrap();
    let batch: Vec<Charge> = (0..6).map(|body| charge(body, 16)).collect();
    assert_eq!(first.charge_batch(&batch, RULES, 1).await.unwrap(), [Ok(5); 6]);
    // Another process reads it without the first one having closed.
    let second = Store::open(&database).await.unwrap();
    assert_eq!(balances(&second).await, [4]);
    first.close().await;
    second.close().await;
    let again = Store::open(&database).await.unwrap();
    assert_eq!(again.charge_batch(&batch, RULES, 2).await.unwrap(), [Ok(5); 6]);
    assert_eq!(balances(&again).await, [4]);
    for body in &batch {
        assert!(again.was_charged(&VOUCHER, &body.body_hash).await.unwrap());
    }
}

async fn when_the_database_fails_nothing_of_a_batch_is_charged(on: On) {
    let (_dir, store) = store(on).await;
    store.create_vouchers(&[VOUCHER, OTHER], Attester::Voucher, 100, 1000).await.unwrap();
    // A number that no column holds makes the last statement of the batch fail.
    let impossible = Charge { epoch: Some(u64::MAX), ..of(OTHER, charge(2, 16)) };
    let batch = [charge(1, 16), impossible];
    assert!(store.charge_batch(&batch, RULES, 1).await.is_err());
    assert_eq!(balances(&store).await, [100, 100]);
    assert!(!store.was_charged(&VOUCHER, &[1; 32]).await.unwrap());
    assert_eq!(charge_one(&store, charge(1, 16), RULES, 1).await, Ok(5));
    assert_eq!(balances(&store).await, [84, 100]);
}

async fn batches_at_once_never_overspend(on: On) {
    let (_dir, store) = store(on).await;
    store.create_vouchers(&[VOUCHER], Attester::Voucher, 100, 1000).await.unwrap();
    let rules = Rules { max_replays: 1000, ..RULES };
    let mut tasks = tokio::task::JoinSet::new();
    for first in 0..30 {
        let store = store.clone();
        // Each body comes in three batches.
        let bodies = first..first + 3;
        tasks.spawn(async move {
            let batch: Vec<Charge> = bodies.clone().map(|body| charge(body, 7)).collect();
            let outcomes = store.charge_batch(&batch, rules, 1).await.unwrap();
            bodies.zip(outcomes).collect::<Vec<_>>()
        });
    }
    let outcomes = tasks.join_all().await.concat();
    let paid: BTreeSet<u8> =
        outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(body, _)| *body).collect();
    assert_eq!(paid.len(), 100 / 7);
    assert_eq!(balances(&store).await, [100 % 7]);
    // Whoever was refused once is refused always, and sees what is left.
    for (body, outcome) in outcomes {
        let expected = if paid.contains(&body) { Ok(5) } else { Err(Refusal::Exhausted(100 % 7)) };
        assert_eq!(outcome, expected);
    }
}

async fn a_batch_has_the_outcomes_that_its_charges_have_one_by_one(on: On) {
    let ((_dir, together), (_other_dir, alone)) = (store(on).await, store(on).await);
    let codes = [VOUCHER, OTHER, [3; 32]]; // the last one is of nobody
    for store in [&together, &alone] {
        store.create_vouchers(&codes[..2], Attester::Voucher, 400, 160).await.unwrap();
    }
    let below = |n: u32| UnwrapErr(SysRng).next_u32() % n;
    let mut answered = 0;
    for round in 0..40 {
        let now = 1 + 5 * round; // the vouchers expire in round 32
        let random = |_| Charge {
            code_hash: codes[below(3) as usize],
            body_hash: [below(40) as u8; 32],
            tokens: 1 + below(16) as usize,
            epoch: [None, Some(4), Some(5), Some(6)][below(4) as usize],
        };
        let batch: Vec<Charge> = (0..below(12)).map(random).collect();
        let rules = Rules { oldest_epoch: 4 + round / 20, ..RULES };
        if round == 25 {
            for store in [&together, &alone] {
                store.prune(5).await.unwrap();
            }
        }
        let outcomes = together.charge_batch(&batch, rules, now).await.unwrap();
        for (charge, outcome) in batch.iter().zip(outcomes) {
            assert_eq!(charge_one(&alone, *charge, rules, now).await, outcome);
            answered += usize::from(outcome.is_ok());
        }
        assert_eq!(balances(&together).await, balances(&alone).await);
    }
    assert!(answered > 0);
}
