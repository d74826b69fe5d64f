//! What the tests of the store share.

use tocyn_issuer::attester::Budgets;
use tocyn_issuer::store::{Charge, Charged, Rules, Store};
use tocyn_service::database::Database;
use tocyn_test_postgres::Postgres;

/// The databases that keep the store's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Sqlite,
    Postgres,
}

/// Makes a test for each database out of a function that is told which: each test of the contract
/// runs on both.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")] async fn $test() {
                super::$test($crate::fixture::On::Sqlite).await
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")] async fn $test() {
                super::$test($crate::fixture::On::Postgres).await
            })*
        }
    };
}
pub(crate) use on_both;

/// Three repeats in 100 seconds, and epoch 4 is not over.
pub(crate) const RULES: Rules = Rules {
    max_replays: 3,
    replay_window_seconds: 100,
    oldest_epoch: 4,
    budgets: Budgets::UNBOUNDED,
};
/// The hash of a voucher's code.
pub(crate) const VOUCHER: [u8; 32] = [1; 32];

/// An empty database of its own for each test, with its folder if it is a file.
pub(crate) fn database(on: On) -> (tempfile::TempDir, Database) {
    let dir = tempfile::tempdir().unwrap();
    let url = match on {
        On::Sqlite => String::new(),
        On::Postgres => Postgres::shared().new_url(),
    };
    let database = Database::parse(&url, dir.path().join("issuer.sqlite")).unwrap();
    (dir, database)
}

/// A store on such a database.
pub(crate) async fn store(on: On) -> (tempfile::TempDir, Store) {
    let (dir, database) = database(on);
    (dir, Store::open(&database).await.unwrap())
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
