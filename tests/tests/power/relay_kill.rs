//! A relay that is killed and started again before the power goes: what it has shown since must hold.

use std::time::Duration;

use tocyn_e2e::disk::{Plan, Point, Strategy, What};
use tocyn_e2e::faults::Dice;

use crate::relay::CELL;
use crate::relay_run::RelayRun;
use crate::runs::{all, rules, somewhere};

/// The n-th sync of the write-ahead log.
fn wal(nth: u64) -> Point {
    Point { what: Some(What::Sync), name: ".sqlite-wal", nth }
}

/// Mostly nothing that was not synced: what a kill left in the page cache alone shows best then.
fn strategy(dice: &mut Dice) -> Option<Strategy> {
    [Some(Strategy::Lost), Some(Strategy::Names), None][dice.below(3) as usize]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_killed_at_any_moment_stands_by_what_it_shows_after_its_start() {
    all("relay, kill and cut", 6, async |seed| {
        let mut dice = Dice::new(seed);
        let mut run = RelayRun::new(rules(&mut dice), dice.throw(), CELL, None);
        run.start().await?;
        for _ in 0..3 {
            let (point, done) = somewhere(&mut dice);
            run.machine.plan(Plan::freeze(point, done));
            run.post(120).await;
            run.restart().await?;
            run.take_checkpoint().await?;
            run.cut_and_check(strategy(&mut dice)).await?;
        }
        Ok(run.machine.tally)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_write_and_sync_of_a_commit_takes_nothing_back() {
    all("relay, kill before a sync of the log", 6, async |seed| {
        let mut dice = Dice::new(seed);
        let mut run = RelayRun::new(rules(&mut dice), dice.throw(), CELL, None);
        run.start().await?;
        for _ in 0..3 {
            let first = run.sent();
            run.machine.plan(Plan::freeze(wal(1 + dice.below(20)), false));
            run.post(60).await;
            run.restart().await?;
            run.take_checkpoint().await?;
            // Retry the posts, as clients without an answer do.
            if dice.below(2) == 0 {
                for token in first..first + 4 + dice.below(40) as usize {
                    run.repeat(token).await;
                }
            }
            run.cut_and_check(strategy(&mut dice)).await?;
        }
        Ok(run.machine.tally)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_it_starts_takes_nothing_back() {
    all("relay, kill during a start", 3, async |seed| {
        let mut dice = Dice::new(seed);
        let mut run = RelayRun::new(rules(&mut dice), dice.throw(), CELL, None);
        run.start().await?;
        for _ in 0..2 {
            run.machine.plan(Plan::freeze(wal(5 + dice.below(20)), dice.below(2) == 0));
            run.post(60).await;
            run.machine.kill_and_thaw();
            let point = Point { what: None, name: "", nth: 1 + dice.below(30) };
            run.machine.plan(Plan::freeze(point, dice.below(2) == 0));
            if run.start().await? {
                run.take_checkpoint().await?;
                run.machine.disk().wait_frozen(Duration::from_millis(50));
            }
            run.restart().await?;
            run.take_checkpoint().await?;
            run.cut_and_check(strategy(&mut dice)).await?;
        }
        Ok(run.machine.tally)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failed_sync_of_the_log_and_a_kill_lose_nothing_that_comes_after() {
    all("relay, failed sync of the log", 6, async |seed| {
        let mut dice = Dice::new(seed);
        let mut run = RelayRun::new(rules(&mut dice), dice.throw(), CELL, None);
        run.start().await?;
        let failed_sync = Some(wal(2 + dice.below(12)));
        run.machine.plan(Plan { failed_sync, ..Plan::default() });
        run.post(60).await;
        run.supervise().await?;
        match dice.below(4) {
            0 => {}
            1 => {
                run.machine.stop();
                run.start().await?;
            }
            _ => run.restart().await?,
        }
        run.post(99).await;
        if run.machine.disk().counts().refused == 0 {
            return Err("no sync failed: the trial is broken".to_owned());
        }
        run.cut_and_check(strategy(&mut dice)).await?;
        Ok(run.machine.tally)
    })
    .await;
}
