//! Power cuts within and after `init`, `pairing renew` and `pairing install`.

use std::time::Duration;

use tocyn_e2e::disk::Rules;
use tocyn_e2e::faults::Dice;
use tocyn_e2e::world::{ISSUER_NAME, RELAY_NAME};

use crate::machine::Machine;
use crate::operators_run::Done;
use crate::relay::CELL;
use crate::relay_run::RelayRun;
use crate::runs::{all, rules};

/// Folders that are made with those above them.
const ISSUER: &str = "srv/pair/issuer";
const RELAY: &str = "srv/pair/relay";

/// Makes the folder; again, after removing it, where the power went within it.
fn init(machine: &mut Machine, name: &str, folder: &str, args: &[&str]) -> Result<(), String> {
    while machine.command_and_cut(name, folder, args, folder)? == Done::CutShort {
        machine.remove(folder);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_init_has_made_stay_made() {
    all("operators, init", 6, async |seed| {
        let mut dice = Dice::new(seed);
        let rules = rules(&mut dice);
        init_pair(rules, dice.throw()).map(|machine| machine.tally)
    })
    .await;
}

/// Makes both folders, and starts what is in them.
pub(crate) fn init_pair(rules: Rules, seed: u64) -> Result<Machine, String> {
    let mut machine = Machine::new(rules, &[], Dice::new(seed));
    let names = ["init", "--issuer-name", ISSUER_NAME, "--origin-name", RELAY_NAME];
    init(&mut machine, "tocyn-issuer", ISSUER, &names)?;
    let pairing = machine.path(ISSUER).join("pairing.toml");
    let pairing = pairing.to_str().expect("temporary paths are text").to_owned();
    init(&mut machine, "tocyn-relay", RELAY, &["init", "--pairing", &pairing])?;
    for (name, folder) in [("tocyn-issuer", ISSUER), ("tocyn-relay", RELAY)] {
        machine.without_sockets(folder);
        machine.serves(name, folder)?;
    }
    Ok(machine)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pairing_that_was_replaced_stays_replaced() {
    all("operators, pairing renew and install", 6, async |seed| {
        let mut dice = Dice::new(seed);
        let mut run = RelayRun::new(rules(&mut dice), dice.throw(), CELL, None);
        if dice.below(2) == 0 {
            // Tied to the old pairing by their databases.
            run.machine.serves("tocyn-issuer", "issuer")?;
            run.start().await?;
            run.post(20).await;
            run.machine.stop();
        }
        let renew = ["pairing", "renew"];
        while run.machine.command_and_cut("tocyn-issuer", "issuer", &renew, "issuer")?
            == Done::CutShort
        {
            // Whichever it is now, it is whole.
            run.machine.service("tocyn-issuer", "issuer", &["pairing", "show"])?;
            // The old file keeps a name with the second in it.
            tokio::time::sleep(Duration::from_millis(1100)).await;
        }
        run.machine.serves("tocyn-issuer", "issuer")?;
        let pairing = run.machine.path("issuer").join("pairing.toml");
        let pairing = pairing.to_str().expect("temporary paths are text").to_owned();
        let install = ["pairing", "install", &pairing];
        while run.machine.command_and_cut("tocyn-relay", "relay", &install, "relay")?
            == Done::CutShort
        {
            run.machine.serves("tocyn-relay", "relay")?;
        }
        run.start().await?;
        run.check_log().await?;
        Ok(run.machine.tally)
    })
    .await;
}
