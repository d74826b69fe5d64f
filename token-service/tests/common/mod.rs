//! What the tests of the store share.

use tocyn_issuer::store::{Charge, Charged, Rules, Store};

/// Three repeats in 100 seconds, and epoch 4 is not over.
pub(crate) const RULES: Rules =
    Rules { max_replays: 3, replay_window_seconds: 100, oldest_epoch: 4 };
/// The hash of a voucher's code.
pub(crate) const VOUCHER: [u8; 32] = [1; 32];

/// A store of its own for each test.
pub(crate) async fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("issuer.sqlite")).await.unwrap();
    (dir, store)
}

/// A charge on [`VOUCHER`] in epoch 5.
pub(crate) fn charge(body: u8, tokens: usize) -> Charge {
    Charge { code_hash: VOUCHER, body_hash: [body; 32], tokens, epoch: Some(5) }
}

/// A batch of one.
pub(crate) async fn charge_one(store: &Store, charge: Charge, rules: Rules, now: u64) -> Charged {
    let mut outcomes = store.charge_batch(&[charge], rules, now).await.unwrap();
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0)
}
