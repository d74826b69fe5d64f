//! Power cuts within and after `backup` and `restore`.

use std::time::Duration;

use tocyn_e2e::disk::Rules;
use tocyn_e2e::faults::Dice;

use crate::machine::Ended;
use crate::operators_run::Done;
use crate::relay_run::RelayRun;
use crate::runs::{all, can_mount, rules};

/// A small cell, for many messages.
const SMALL: usize = 64;
/// More than a bundle, so that there are sealed messages.
const POSTS: usize = 300;

/// A stopped pair: a relay with sealed messages, an issuer with vouchers.
pub(crate) async fn pair() -> RelayRun {
    let mut run = RelayRun::new(Rules::Strict, 0, SMALL, None);
    run.start().await.unwrap();
    run.post(POSTS).await;
    for _ in 0..200 {
        let stats = run.machine.service("tocyn-relay", "relay", &["db", "stats", "--json"]);
        let stats: serde_json::Value = serde_json::from_str(&stats.unwrap()).unwrap();
        if stats["bundles"].as_u64() >= Some(1) {
            run.check().await.unwrap();
            run.machine.stop();
            let create = ["voucher", "create", "--count", "3", "--tokens", "64"];
            run.machine.service("tocyn-issuer", "issuer", &create).unwrap();
            run.machine.serves("tocyn-issuer", "issuer").unwrap();
            return run;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nothing is sealed");
}

/// Makes a backup; again, into a new folder, where the power went within it. What was cut short must
/// not pass for one.
fn backup(run: &mut RelayRun, service: &str) -> Result<String, String> {
    let program = format!("tocyn-{service}");
    for number in 0..20 {
        let folder = format!("backup-{service}-{number}");
        let path = run.machine.path(&folder).to_str().expect("text").to_owned();
        if run.machine.dice.below(2) == 0 {
            // Beside the service.
            run.machine.serve(&program, service).map_err(Option::unwrap_or_default)?;
        }
        match run.machine.command_and_cut(&program, service, &["backup", &path], &folder)? {
            Done::Yes => return Ok(path),
            Done::CutShort => {
                let scratch = format!("scratch-{service}-{number}");
                let ended = run.machine.command(&program, &scratch, &["restore", &path]);
                if let Ended::Exited(status, said) = ended
                    && status.success()
                {
                    // It was whole, though it could not say so.
                    let checked = run.machine.service(&program, &scratch, &["db", "check"])?;
                    if !checked.contains("no fault found") {
                        return Err(format!("half a backup passes for one: {said}"));
                    }
                }
                run.machine.remove(&scratch);
            }
        }
    }
    Err("20 backups were cut short".to_owned())
}

fn vouchers(run: &mut RelayRun, folder: &str) -> Result<String, String> {
    run.machine.service("tocyn-issuer", folder, &["voucher", "list", "--json"])
}

/// Restores the issuer into `issuer-2`.
fn restore_issuer(run: &mut RelayRun, from: &str) -> Result<(), String> {
    let expected = vouchers(run, "issuer")?;
    let restore = ["restore", from];
    while run.machine.command_and_cut("tocyn-issuer", "issuer-2", &restore, "issuer-2")?
        == Done::CutShort
    {
        run.machine.remove("issuer-2");
    }
    match vouchers(run, "issuer-2")? == expected {
        true => run.machine.serves("tocyn-issuer", "issuer-2"),
        false => Err("the restored issuer has other vouchers".to_owned()),
    }
}

/// Restores the relay into `relay-2`, with a pairing that is made after that. A restore that was cut
/// short must not be taken for a relay.
async fn restore_relay(run: &mut RelayRun, from: &str) -> Result<(), String> {
    let (program, folder) = ("tocyn-relay", "relay-2");
    let pairing = run.machine.path("issuer-2").join("pairing.toml");
    let pairing = pairing.to_str().expect("text").to_owned();
    let install = ["pairing", "install", &pairing];
    loop {
        let done = run.machine.command_and_cut(program, folder, &["restore", from], folder)?;
        if run.machine.serve(program, folder).is_ok() {
            return Err("it serves with the pairing of the backup".to_owned());
        }
        run.machine.service("tocyn-issuer", "issuer-2", &["pairing", "renew"])?;
        match run.machine.command(program, folder, &install) {
            Ended::Exited(status, _) if status.success() => break,
            Ended::Exited(_, said) if done == Done::Yes => {
                return Err(format!("pairing install after a restore: {said}"));
            }
            _ => run.machine.remove(folder),
        }
    }
    folder.clone_into(&mut run.folder);
    run.start().await?;
    run.check_log().await
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_and_restores_that_were_done_are_whole() {
    let base = if can_mount() { Some(pair().await) } else { None };
    all("operators, backup and restore", 5, async |seed| {
        let base = base.as_ref().expect("it can be mounted");
        let mut dice = Dice::new(seed);
        let mut run = RelayRun::like(base, rules(&mut dice), dice.throw());
        let issuer = backup(&mut run, "issuer")?;
        let relay = backup(&mut run, "relay")?;
        restore_issuer(&mut run, &issuer)?;
        restore_relay(&mut run, &relay).await?;
        Ok(run.machine.tally)
    })
    .await;
}
