//! Power cuts under the relay.

use tocyn_e2e::disk::{Plan, Point, What};
use tocyn_e2e::faults::Dice;

use crate::relay_run::RelayRun;
use crate::runs::{Tally, all, rules};

/// The default size of a cell.
pub(crate) const CELL: usize = 2048;

/// A point that is reached at some time under load.
pub(crate) fn somewhere(dice: &mut Dice) -> (Point, bool) {
    let what = [None, Some(What::Write), Some(What::Sync), Some(What::Sync), Some(What::Names)];
    let what = what[dice.below(5) as usize];
    let most = match what {
        None => 400,
        Some(What::Write) => 300,
        Some(What::Sync) => 60,
        Some(What::Names) => 12,
    };
    (Point { what, name: "", nth: 1 + dice.below(most) }, dice.below(2) == 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_power_goes_at_any_request_under_load() {
    all("relay, random cuts", 5, async |seed| {
        let mut dice = Dice::new(seed);
        let mut run = RelayRun::new(rules(&mut dice), dice.throw(), CELL, None);
        for _ in 0..3 {
            let (point, done) = somewhere(&mut dice);
            run.machine.plan(Plan::freeze(point, done));
            // In the first round also while it makes its files, later while it recovers.
            if run.start().await? {
                run.post(120).await;
            }
            run.cut_and_check(None).await?;
            run.machine.stop();
        }
        Ok(Tally { cuts: run.machine.cuts, ..Tally::default() })
    })
    .await;
}
