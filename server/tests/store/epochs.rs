//! Epochs close, and pairings are replaced.

use tocyn_relay::store::SpendOutcome;

use crate::fixture::{Fixture, pairing, seq};

#[tokio::test]
async fn a_batch_over_three_epochs_closes_the_one_that_makes_room() {
    let f = Fixture::new().await;
    let old = f.pay(&f.token(0), 0, "old");
    assert_eq!(seq(&f.spend(std::slice::from_ref(&old), 1).await[0]), Some(1));
    // Epoch 3 takes the table of epoch 0, whatever the order within the batch.
    let batch = [old, f.pay(&f.token(3), 3, "new"), f.pay(&f.token(2), 2, "between")];
    let done = f.spend(&batch, 2).await;
    assert_eq!(done[0], SpendOutcome::EpochClosed);
    assert_eq!((seq(&done[1]), seq(&done[2])), (Some(2), Some(3)));
}

#[tokio::test]
async fn an_epoch_is_dropped_whole_and_stays_closed() {
    let f = Fixture::new().await;
    let old = f.token(0);
    let paid = [f.pay(&old, 0, "old")];
    f.spend(&paid, 1).await;
    // Epoch 3 takes the table that epoch 0 had.
    assert_eq!(seq(&f.spend(&[f.pay(&f.token(3), 3, "new")], 2).await[0]), Some(2));
    assert_eq!(f.spend(&paid, 3).await, [SpendOutcome::EpochClosed]);
    // Even if the clock goes back: what was forgotten cannot be told from what was not spent.
    assert_eq!(f.store.close_epochs_below(4).await.unwrap(), [3]);
    assert_eq!(f.spend(&paid, 3).await, [SpendOutcome::EpochClosed]);
    let late = [f.pay(&f.token(2), 2, "late")];
    assert_eq!(f.spend(&late, 3).await, [SpendOutcome::EpochClosed]);
    assert_eq!(seq(&f.spend(&[f.pay(&f.token(4), 4, "go on")], 4).await[0]), Some(3));
}

#[tokio::test]
async fn a_new_pairing_starts_with_an_empty_spent_set_and_keeps_the_messages() {
    let mut f = Fixture::new().await;
    let token = f.token(5);
    f.spend(&[f.pay(&token, 5, "before")], 1).await;
    f.pairing = pairing();
    f.reopen().await;
    assert_eq!(seq(&f.spend(&[f.pay(&f.token(0), 0, "after")], 2).await[0]), Some(2));
    assert_eq!(f.range().await, (1, 2));
}
