//! Power cuts under the relay.

use tocyn_e2e::disk::Plan;
use tocyn_e2e::faults::Dice;

use crate::relay_run::RelayRun;
use crate::runs::{all, at_first, rules, somewhere};

/// The default size of a cell.
pub(crate) const CELL: usize = 2048;

#[tokio::test(flavor = "multi_thread")]
async fn the_power_goes_at_any_request_under_load() {
    all("relay, random cuts", 5, async |seed| {
        let mut dice = Dice::new(seed);
        let mut run = RelayRun::new(rules(&mut dice), dice.throw(), CELL, None);
        for round in 0..3 {
            let (point, done) = match round == 0 && dice.below(2) == 0 {
                true => at_first(&mut dice),
                false => somewhere(&mut dice),
            };
            run.machine.plan(Plan::freeze(point, done));
            // In the first round also while it makes its files, later while it recovers.
            if run.start().await? {
                run.post(120).await;
            }
            run.cut_and_check(None).await?;
            run.machine.stop();
        }
        Ok(run.machine.tally)
    })
    .await;
}
