//! The trial finds what it is for: a disk that lies about syncs.

use tocyn_e2e::disk::{Rules, Strategy};

use crate::relay_run::RelayRun;
use crate::runs::can_mount;

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_lies_is_found_out_under_the_relay() {
    if !can_mount() {
        return;
    }
    for seed in 0..2 {
        let mut run = RelayRun::new(Rules::Lying, seed, 2048, None);
        assert!(run.start().await.unwrap());
        run.post(40).await;
        assert_eq!(run.acknowledged(), 40);
        run.check().await.unwrap();
        let found = run.cut_and_check(Some(Strategy::Lost)).await;
        println!("{found:?}");
        assert!(found.is_err(), "seed {seed}: the disk lost everything, and nobody noticed");
    }
}
