//! Runs of a case, one for each seed.

use std::io::Write;
use std::sync::OnceLock;
use std::time::{Instant, SystemTime};

use tocyn_e2e::disk::{Disk, Point, Rules, What};
use tocyn_e2e::faults::Dice;

/// Runs of a quick case in `./test`.
const MOST: u64 = 6;

/// Counts of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) cuts: u64,
    /// Cuts after a kill and a restart.
    pub(crate) after_kill: u64,
    /// Cuts after a sync that failed.
    pub(crate) after_failure: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.after_kill += other.after_kill;
        self.after_failure += other.after_failure;
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text}")))
}

/// Whether a disk can be mounted here. Says so where it cannot, past the capture of test output;
/// with `TOCYN_POWER=required`, the tests fail then.
pub(crate) fn can_mount() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    let can = *CAN.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tried = Disk::new(folder.path(), Rules::Strict);
        if let Err(error) = &tried {
            let _ = writeln!(
                std::io::stderr(),
                "\nWARNING: POWER CUTS WERE NOT TRIED: /dev/fuse cannot be used here ({error}). \
                 Run this as root on a machine with FUSE.\n"
            );
        }
        tried.is_ok()
    });
    let is_required = std::env::var_os("TOCYN_POWER").is_some_and(|text| text == "required");
    assert!(can || !is_required, "power cuts cannot be tried without /dev/fuse");
    can
}

/// Seeds of a case: the one of `TOCYN_SEED`, or fresh ones. `TOCYN_RUNS` is how many the cases have
/// that are quick, [`MOST`] by default; the others have fewer in proportion.
fn seeds(default: u64) -> Vec<u64> {
    if let Some(seed) = number("TOCYN_SEED") {
        return vec![seed];
    }
    let runs = number("TOCYN_RUNS").map_or(default, |runs| (runs * default).div_ceil(MOST));
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let mut dice = Dice::new(since.as_nanos() as u64);
    (0..runs).map(|_| dice.below(1 << 32)).collect()
}

/// The rules of a run.
pub(crate) fn rules(dice: &mut Dice) -> Rules {
    if dice.below(2) == 0 { Rules::Ext4 } else { Rules::Strict }
}

/// A point in the first moments of a service, while it makes its files.
pub(crate) fn at_first(dice: &mut Dice) -> (Point, bool) {
    let what = [What::Write, What::Sync, What::Names][dice.below(3) as usize];
    (Point { what: Some(what), name: "", nth: 1 + dice.below(12) }, dice.below(2) == 0)
}

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

/// Runs a case for each seed, one after the other; all that goes wrong is in the panic. In `./test`
/// it has `default` runs.
pub(crate) async fn all(
    name: &str,
    default: u64,
    mut run: impl AsyncFnMut(u64) -> Result<Tally, String>,
) {
    if !can_mount() {
        return;
    }
    let (since, mut tally, mut wrong) = (Instant::now(), Tally::default(), Vec::new());
    let seeds = seeds(default);
    for seed in &seeds {
        match run(*seed).await {
            Ok(one) => tally += one,
            Err(what) => {
                let thread = std::thread::current();
                let test = thread.name().unwrap_or("power").to_owned();
                let line = format!("TOCYN_SEED={seed} ./test --power {test}: {what}");
                println!("{line}");
                wrong.push(line);
            }
        }
    }
    println!(
        "{name}: {} runs in {:.1} s, {} with a violation; {} cuts, {} after a kill and a restart, \
         {} after a failed sync",
        seeds.len(),
        since.elapsed().as_secs_f64(),
        wrong.len(),
        tally.cuts,
        tally.after_kill,
        tally.after_failure
    );
    assert!(wrong.is_empty(), "{} of {} runs: {wrong:#?}", wrong.len(), seeds.len());
}
