//! The trials find what they are for: a disk that lies about syncs.

use tocyn_e2e::disk::{Rules, Strategy};
use tocyn_e2e::faults::Dice;

use crate::issuer_run::IssuerRun;
use crate::machine::Machine;
use crate::operators_start::init_pair;
use crate::relay::CELL;
use crate::relay_run::RelayRun;
use crate::runs::can_mount;
use crate::wallet_run::{BATCH, Scene, WalletRun};

/// Runs of each control.
const RUNS: u64 = 2;
/// Content that a lying disk keeps: nothing, or all that it cannot lose unnoticed.
const STRATEGIES: [Strategy; 2] = [Strategy::Lost, Strategy::Names];

/// Every run of a control must find something.
fn noticed(what: &str, found: Result<(), String>) {
    println!("control, {what}: {found:?}");
    assert!(found.is_err(), "{what}: a disk lost what was synced, and nobody noticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_lies_is_found_out_under_the_relay() {
    for seed in (0..RUNS).filter(|_| can_mount()) {
        let mut run = RelayRun::new(Rules::Lying, seed, CELL, None);
        assert!(run.start().await.unwrap());
        run.post(40).await;
        assert_eq!(run.acknowledged(), 40);
        run.check().await.unwrap();
        noticed("relay", run.cut_and_check(Some(STRATEGIES[seed as usize])).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_lies_is_found_out_under_the_issuer() {
    for seed in (0..RUNS).filter(|_| can_mount()) {
        let mut run = IssuerRun::new(Rules::Lying, seed).unwrap();
        assert!(run.start().unwrap());
        run.buy(40).await;
        run.check().await.unwrap();
        noticed("issuer", run.cut_and_check(Some(STRATEGIES[seed as usize])).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_lies_is_found_out_under_the_wallet() {
    if !can_mount() {
        return;
    }
    let scene = Scene::new();
    for seed in 0..RUNS {
        let mut run = WalletRun::new(&scene, Rules::Lying, seed);
        run.request(BATCH).unwrap();
        run.check().await.unwrap();
        noticed("wallet", run.cut_and_check(Some(STRATEGIES[seed as usize])).await);
    }
}

#[test]
fn a_disk_that_lies_is_found_out_under_init() {
    for seed in (0..RUNS).filter(|_| can_mount()) {
        noticed("init", init_pair(Rules::Lying, seed).map(drop));
    }
}

/// The control of the control: such a disk is as good as any where the power stays.
#[test]
fn a_disk_that_keeps_everything_is_not_blamed() {
    if !can_mount() {
        return;
    }
    let mut machine = Machine::new(Rules::Lying, &[], Dice::new(0));
    let names = ["init", "--issuer-name", "issuer.example", "--origin-name", "relay.example"];
    machine.service("tocyn-issuer", "issuer", &names).unwrap();
    machine.cut(Strategy::Kept);
    machine.without_sockets("issuer");
    machine.serves("tocyn-issuer", "issuer").unwrap();
}
