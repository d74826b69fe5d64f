//! Power cuts under the wallet, with kills and bad disks before them.

use tocyn_e2e::disk::{Plan, Point, Strategy, What};
use tocyn_e2e::faults::Dice;

use crate::runs::{all, can_mount, rules};
use crate::wallet_run::{BATCH, Scene, WalletRun};

/// A point within a command; a first `request` makes the wallet, which takes longest.
fn within(dice: &mut Dice, requests: u64) -> (Point, bool) {
    let (what, nth) = match dice.below(4) {
        0 => (What::Names, 1 + dice.below(6)),
        1 => (What::Write, 1 + dice.below(requests)),
        _ => (What::Sync, 1 + dice.below(requests / 8)),
    };
    (Point { what: Some(what), name: "", nth }, dice.below(2) == 0)
}

fn strategy(dice: &mut Dice) -> Option<Strategy> {
    [Some(Strategy::Lost), Some(Strategy::Names), None, None][dice.below(4) as usize]
}

fn scene() -> Option<Scene> {
    can_mount().then(Scene::new)
}

/// One of the few syncs of a command's commits, not done.
fn before_a_commit(dice: &mut Dice) -> Plan {
    let nth = 1 + dice.below(4);
    Plan::freeze(Point { what: Some(What::Sync), name: ".sqlite-wal", nth }, false)
}

/// A command of the wallet, drawn.
fn act(run: &mut WalletRun, dice: &mut Dice) -> Result<bool, String> {
    match dice.below(4) {
        0 => run.request(BATCH * (1 + dice.below(3))),
        1 => run.resume(),
        _ => run.post(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_power_goes_during_any_command() {
    let scene = scene();
    all("wallet, random cuts", 4, async |seed| {
        let mut dice = Dice::new(seed);
        let scene = scene.as_ref().expect("it can be mounted");
        let mut run = WalletRun::new(scene, rules(&mut dice), dice.throw());
        // While the wallet is made, or right after it.
        if dice.below(3) > 0 {
            let (point, done) = within(&mut dice, 100);
            run.machine.plan(Plan::freeze(point, done));
        }
        run.request(BATCH)?;
        run.cut_and_check(strategy(&mut dice)).await?;
        for _ in 0..2 {
            let (point, done) = within(&mut dice, 40);
            run.machine.plan(Plan::freeze(point, done));
            while act(&mut run, &mut dice)? && dice.below(3) > 0 {}
            run.cut_and_check(strategy(&mut dice)).await?;
        }
        Ok(run.machine.tally)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_command_and_the_next_one_stand_by_what_they_did() {
    let scene = scene();
    all("wallet, kill and cut", 4, async |seed| {
        let mut dice = Dice::new(seed);
        let scene = scene.as_ref().expect("it can be mounted");
        let mut run = WalletRun::new(scene, rules(&mut dice), dice.throw());
        run.request(BATCH)?;
        for _ in 0..3 {
            let sync = Point { what: Some(What::Sync), name: "", nth: 1 + dice.below(6) };
            let (point, done) = match dice.below(2) {
                0 => within(&mut dice, 40),
                _ => (sync, false), // between a write and its sync
            };
            run.machine.plan(Plan::freeze(point, done));
            let is_post = dice.below(2) == 0;
            match is_post {
                true => run.post()?,
                false => run.request(BATCH)?,
            };
            run.machine.kill_and_thaw();
            match is_post {
                true => run.resume()?,
                false => run.request(BATCH)?,
            };
            run.cut_and_check(strategy(&mut dice)).await?;
        }
        run.spend_all().await?;
        Ok(run.machine.tally)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_sends_after_a_kill_was_durable_before() {
    let scene = scene();
    all("wallet, kill and cut before commits", 4, async |seed| {
        let mut dice = Dice::new(seed);
        let scene = scene.as_ref().expect("it can be mounted");
        let mut run = WalletRun::new(scene, rules(&mut dice), dice.throw());
        run.request(BATCH)?;
        for _ in 0..5 {
            let is_post = dice.below(3) > 0;
            run.machine.plan(before_a_commit(&mut dice));
            match is_post {
                true => run.post()?,
                false => run.request(BATCH)?,
            };
            run.machine.kill_and_thaw();
            // It sends what it has read in the cache alone, and the power goes before it commits.
            run.machine.plan(before_a_commit(&mut dice));
            match is_post {
                true => run.resume()?,
                false => run.request(BATCH)?,
            };
            run.cut_and_check(Some(Strategy::Lost)).await?;
        }
        run.spend_all().await?;
        Ok(run.machine.tally)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_disk_costs_no_token() {
    let scene = scene();
    all("wallet, failed syncs, ENOSPC and EIO", 4, async |seed| {
        let mut dice = Dice::new(seed);
        let scene = scene.as_ref().expect("it can be mounted");
        let mut run = WalletRun::new(scene, rules(&mut dice), dice.throw());
        run.request(BATCH)?;
        let point = |what, nth| Point { what: Some(what), name: "", nth };
        run.machine.plan(match dice.below(4) {
            0 => Plan { room: Some(dice.below(60_000)), ..Plan::default() },
            1 => {
                let (point, times) = (point(What::Write, 1 + dice.below(30)), 1 + dice.below(8));
                Plan { failed_writes: Some((point, times)), ..Plan::default() }
            }
            _ => {
                let failed_sync = Some(point(What::Sync, 1 + dice.below(8)));
                Plan { failed_sync, ..Plan::default() }
            }
        });
        for _ in 0..4 {
            act(&mut run, &mut dice)?;
        }
        run.machine.plan(Plan::default());
        for _ in 0..dice.below(4) {
            act(&mut run, &mut dice)?;
        }
        run.cut_and_check(strategy(&mut dice)).await?;
        run.spend_all().await?;
        Ok(run.machine.tally)
    })
    .await;
}
