//! Power cuts under the issuer, with kills and bad disks before them.

use tocyn_e2e::disk::{Plan, Point, Strategy, What};
use tocyn_e2e::faults::Dice;

use crate::issuer_run::IssuerRun;
use crate::runs::{all, at_first, rules, somewhere};

fn wal(what: What, nth: u64) -> Point {
    Point { what: Some(what), name: ".sqlite-wal", nth }
}

fn strategy(dice: &mut Dice) -> Option<Strategy> {
    [Some(Strategy::Lost), Some(Strategy::Names), None][dice.below(3) as usize]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_power_goes_at_any_request_under_load() {
    all("issuer, random cuts", 5, async |seed| {
        let mut dice = Dice::new(seed);
        let mut run = IssuerRun::new(rules(&mut dice), dice.throw())?;
        for round in 0..3 {
            let (point, done) = match round == 0 && dice.below(2) == 0 {
                true => at_first(&mut dice),
                false => somewhere(&mut dice),
            };
            run.machine.plan(Plan::freeze(point, done));
            if run.start()? {
                run.buy(40).await;
                run.create_vouchers(1)?;
                run.buy(40).await;
            }
            run.cut_and_check(None).await?;
            run.machine.stop();
        }
        Ok(run.machine.tally)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_killed_stands_by_what_it_answers_after_its_start() {
    all("issuer, kill and cut", 6, async |seed| {
        let mut dice = Dice::new(seed);
        let mut run = IssuerRun::new(rules(&mut dice), dice.throw())?;
        run.start()?;
        for _ in 0..3 {
            let (point, done) = match dice.below(2) {
                0 => somewhere(&mut dice),
                _ => (wal(What::Sync, 1 + dice.below(20)), false),
            };
            run.machine.plan(Plan::freeze(point, done));
            run.buy(60).await;
            run.restart()?;
            match dice.below(3) {
                0 => {}
                1 => run.send_again().await,
                _ => run.create_vouchers(1)?,
            }
            run.cut_and_check(strategy(&mut dice)).await?;
        }
        Ok(run.machine.tally)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failed_sync_costs_nothing_that_was_answered() {
    all("issuer, failed sync", 5, async |seed| {
        let mut dice = Dice::new(seed);
        let mut run = IssuerRun::new(rules(&mut dice), dice.throw())?;
        run.start()?;
        let failed_sync = Some(wal(What::Sync, 1 + dice.below(12)));
        run.machine.plan(Plan { failed_sync, ..Plan::default() });
        run.buy(60).await;
        run.supervise()?;
        match dice.below(4) {
            0 => {}
            1 => {
                run.machine.stop();
                run.start()?;
            }
            _ => run.restart()?,
        }
        if run.machine.disk().counts().refused == 0 {
            return Err("no sync failed: the trial is broken".to_owned());
        }
        run.buy(60).await;
        run.cut_and_check(strategy(&mut dice)).await?;
        Ok(run.machine.tally)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failed_sync_of_the_database_costs_nothing() {
    all("issuer, failed sync in a checkpoint", 2, async |seed| {
        let mut dice = Dice::new(seed);
        let mut run = IssuerRun::new(rules(&mut dice), dice.throw())?;
        run.start()?;
        let point = Point { what: Some(What::Sync), name: "issuer.sqlite", nth: 1 };
        run.machine.plan(Plan { failed_sync: Some(point), ..Plan::default() });
        run.buy(100).await;
        // Its close copies back: the process that cannot do that ends all the same.
        run.machine.stop();
        run.start()?;
        if run.machine.disk().counts().refused == 0 {
            return Err("no sync failed: the trial is broken".to_owned());
        }
        run.buy(60).await;
        run.cut_and_check(strategy(&mut dice)).await?;
        Ok(run.machine.tally)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_and_failing_writes_cost_nothing_that_was_answered() {
    all("issuer, ENOSPC and EIO", 3, async |seed| {
        let mut dice = Dice::new(seed);
        let mut run = IssuerRun::new(rules(&mut dice), dice.throw())?;
        run.start()?;
        run.machine.plan(match dice.below(2) {
            0 => Plan { room: Some(dice.below(300_000)), ..Plan::default() },
            _ => {
                let (point, times) = (wal(What::Write, 1 + dice.below(100)), 1 + dice.below(30));
                Plan { failed_writes: Some((point, times)), ..Plan::default() }
            }
        });
        run.buy(100).await;
        run.supervise()?;
        let killed = dice.below(2) == 0;
        match killed {
            true => run.restart()?,
            false => run.machine.plan(Plan::default()),
        }
        run.buy(40).await;
        run.cut_and_check(None).await?;
        Ok(run.machine.tally)
    })
    .await;
}
