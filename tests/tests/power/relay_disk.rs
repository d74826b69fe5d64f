//! Disks that refuse something before the power goes: checkpoints, full disks, failing writes; and
//! messages that leave the database.

use std::time::Duration;

use tocyn_e2e::disk::{Plan, Point, Rules, Strategy, What};
use tocyn_e2e::faults::Dice;

use crate::relay::CELL;
use crate::relay_run::RelayRun;
use crate::runs::{all, rules};

/// The largest cell: the write-ahead log is long enough for a checkpoint after 723 posts.
const LARGE: usize = 65_535;
/// Posts until a checkpoint is under way.
const UNTIL_CHECKPOINT: usize = 900;
/// A small cell, for many messages.
const SMALL: usize = 64;
/// Messages that are kept where there is a bound: less than two bundles.
const KEPT: u64 = 400;

#[tokio::test(flavor = "multi_thread")]
async fn one_failed_sync_in_a_checkpoint_costs_nothing() {
    all("relay, failed sync in a checkpoint", 2, async |seed| {
        let mut dice = Dice::new(seed);
        let mut run = RelayRun::new(rules(&mut dice), dice.throw(), LARGE, None);
        run.start().await?;
        let point = Point { what: Some(What::Sync), name: "relay.sqlite", nth: 1 + dice.below(2) };
        run.machine.plan(Plan { failed_sync: Some(point), ..Plan::default() });
        let mut failed = false;
        for _ in 0..3 {
            run.post(UNTIL_CHECKPOINT).await;
            run.supervise().await?;
            failed |= run.machine.disk().counts().refused > 0;
            if failed {
                break;
            }
        }
        if !failed {
            return Err("no sync failed: the trial is broken".to_owned());
        }
        match dice.below(3) {
            // Another checkpoint, and its log begins anew.
            0 => drop(run.post(UNTIL_CHECKPOINT).await),
            1 => run.restart().await?,
            _ => {
                run.machine.stop();
                run.start().await?;
            }
        }
        run.supervise().await?;
        run.post(100).await;
        run.cut_and_check([Some(Strategy::Lost), None][dice.below(2) as usize]).await?;
        Ok(run.machine.tally)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_power_goes_during_a_checkpoint() {
    all("relay, cut in a checkpoint", 1, async |seed| {
        let mut dice = Dice::new(seed);
        let mut run = RelayRun::new(rules(&mut dice), dice.throw(), LARGE, None);
        run.start().await?;
        let what = [What::Write, What::Write, What::Sync][dice.below(3) as usize];
        let most = if what == What::Write { 3000 } else { 3 };
        let point = Point { what: Some(what), name: "relay.sqlite", nth: 1 + dice.below(most) };
        run.machine.plan(Plan::freeze(point, dice.below(2) == 0));
        while run.sent() < 3 * UNTIL_CHECKPOINT && run.post(UNTIL_CHECKPOINT / 2).await {}
        run.cut_and_check(None).await?;
        Ok(run.machine.tally)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_and_failing_writes_cost_nothing_that_was_acknowledged() {
    all("relay, ENOSPC and EIO", 4, async |seed| {
        let mut dice = Dice::new(seed);
        let mut run = RelayRun::new(rules(&mut dice), dice.throw(), CELL, None);
        run.start().await?;
        let write = |nth| Point { what: Some(What::Write), name: ".sqlite-wal", nth };
        run.machine.plan(match dice.below(2) {
            0 => Plan { room: Some(dice.below(300_000)), ..Plan::default() },
            _ => {
                let (point, times) = (write(1 + dice.below(150)), 1 + dice.below(30));
                Plan { failed_writes: Some((point, times)), ..Plan::default() }
            }
        });
        run.post(150).await;
        run.supervise().await?;
        let killed = dice.below(2) == 0;
        if killed {
            run.restart().await?;
        } else {
            run.machine.plan(Plan::default());
        }
        run.post(50).await;
        run.cut_and_check(None).await?;
        Ok(run.machine.tally)
    })
    .await;
}

/// A stopped relay with six bundles, of which retention will drop all but one or two.
async fn full() -> RelayRun {
    let mut run = RelayRun::new(Rules::Strict, 0, SMALL, Some(KEPT * SMALL as u64));
    run.start().await.unwrap();
    run.post(6 * 256 + 100).await;
    for _ in 0..200 {
        let stats = run.machine.service("tocyn-relay", "relay", &["db", "stats", "--json"]);
        let stats: serde_json::Value = serde_json::from_str(&stats.unwrap()).unwrap();
        if stats["bundles"].as_u64() >= Some(6) {
            run.check().await.unwrap();
            run.machine.stop();
            return run;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nothing is sealed");
}

#[tokio::test(flavor = "multi_thread")]
async fn sealing_and_retention_leave_a_relay_that_starts() {
    let base = if crate::runs::can_mount() { Some(full().await) } else { None };
    all("relay, sealing and retention", 6, async |seed| {
        let base = base.as_ref().expect("it can be mounted");
        let mut dice = Dice::new(seed);
        let mut run = RelayRun::like(base, rules(&mut dice), dice.throw());
        // Retention has its first round in this start.
        let what = [None, Some(What::Sync), Some(What::Sync), Some(What::Names)];
        let what = what[dice.below(4) as usize];
        let name = if what == Some(What::Sync) { ".sqlite-wal" } else { "" };
        let nth = 1 + dice.below(if what.is_none() { 60 } else { 8 });
        run.machine.plan(Plan::freeze(Point { what, name, nth }, dice.below(3) == 0));
        if run.start().await? {
            // So that there is a bundle to seal, a second later.
            run.post(256).await;
            run.machine.disk().wait_frozen(Duration::from_millis(1500));
        }
        let killed = dice.below(3) > 0;
        if killed {
            run.restart().await?;
            run.take_checkpoint().await?;
        }
        let names = [None, Some(Strategy::Names), Some(Strategy::Lost)];
        run.cut_and_check(names[dice.below(3) as usize]).await?;
        Ok(run.machine.tally)
    })
    .await;
}
