//! Processor time and memory of processes of this machine, from Linux's `/proc`. Elsewhere there
//! are none, and reports leave them out.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::machine;
use super::spawn::Pair;

/// The unit of times in `/proc`, in seconds: it is the same on every architecture.
const TICK: f64 = 0.01;

/// Processor time since the start of a process, in seconds.
pub(crate) fn cpu_seconds(id: u32) -> Option<f64> {
    ticks_of_process(&std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
        .map(|ticks| ticks as f64 * TICK)
}

/// The sum of several processes. None if there are none.
fn cpu_seconds_of(ids: &[u32]) -> Option<f64> {
    if ids.is_empty() {
        return None;
    }
    ids.iter().map(|id| cpu_seconds(*id)).sum()
}

/// User and system time in a `/proc/PID/stat`.
fn ticks_of_process(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses; it may hold anything.
    let fields = stat.rsplit_once(')')?.1;
    let mut fields = fields.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// Processor time of everything on this machine.
pub(crate) fn machine_seconds() -> Option<f64> {
    let ticks = ticks_of_machine(&std::fs::read_to_string("/proc/stat").ok()?)?;
    Some(ticks as f64 * TICK)
}

/// All but idle and waiting for disks in the first line of `/proc/stat`.
fn ticks_of_machine(stat: &str) -> Option<u64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> =
        line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    // user nice system idle iowait irq softirq steal; guest times are in user.
    let busy = [0, 1, 2, 5, 6, 7].iter().map(|&n| fields.get(n).copied().unwrap_or(0));
    Some(busy.sum())
}

/// Memory that a process holds now, in bytes.
pub(crate) fn memory_bytes(id: u32) -> Option<u64> {
    status_bytes(id, "VmRSS:")
}

/// The most that it has held since [`forget_peak`].
pub(crate) fn peak_bytes(id: u32) -> Option<u64> {
    status_bytes(id, "VmHWM:")
}

/// Lets the peak start anew. Where that is not allowed, it is the peak since the start.
#[expect(clippy::disallowed_methods, reason = "the kernel keeps no such file on a disk")]
pub(crate) fn forget_peak(id: u32) {
    let _ = std::fs::write(format!("/proc/{id}/clear_refs"), "5");
}

fn status_bytes(id: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// What was used while something ran.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    took: Duration,
    /// Of this process, which makes the load.
    load: Option<f64>,
    relay: Option<f64>,
    issuer: Option<f64>,
    /// Of all others on the machine, its kernel included.
    others: Option<f64>,
    /// The most memory that a relay has held meanwhile.
    pub(crate) relay_peak_bytes: Option<u64>,
}

/// Measures from its start to its stop. Issuer and relay are looked at if they are our own.
pub(crate) struct Meter {
    /// This process, the relays, the issuer; empty where they are not our own.
    ids: [Vec<u32>; 3],
    start: Instant,
    cpu: [Option<f64>; 3],
    machine: Option<f64>,
}

impl Meter {
    pub(crate) fn start(own: Option<&Pair>) -> Self {
        let issuer = own.map(Pair::issuer_id).into_iter().collect();
        let ids = [vec![std::process::id()], own.map(Pair::relay_ids).unwrap_or_default(), issuer];
        ids[1].iter().copied().for_each(forget_peak);
        let cpu = ids.each_ref().map(|ids| cpu_seconds_of(ids));
        Self { ids, start: Instant::now(), cpu, machine: machine_seconds() }
    }

    pub(crate) fn stop(self) -> Usage {
        let took = self.start.elapsed();
        let used = |now: Option<f64>, before: Option<f64>| Some(now? - before?);
        let now = self.ids.each_ref().map(|ids| cpu_seconds_of(ids));
        let [load, relay, issuer] = [0, 1, 2].map(|n| used(now[n], self.cpu[n]));
        let known: f64 = [load, relay, issuer].iter().flatten().sum();
        let others = used(machine_seconds(), self.machine).map(|all| (all - known).max(0.0));
        let relay_peak_bytes = self.ids[1].iter().filter_map(|id| peak_bytes(*id)).max();
        Usage { took, load, relay, issuer, others, relay_peak_bytes }
    }
}

impl Usage {
    /// Cores, on average, of the load generator, the relay, the issuer and all others.
    pub(crate) fn cores(&self) -> [Option<f64>; 4] {
        let seconds = self.took.as_secs_f64().max(TICK);
        [self.load, self.relay, self.issuer, self.others].map(|used| Some(used? / seconds))
    }

    /// Cores that the load generator did not use.
    pub(crate) fn cores_left(&self) -> f64 {
        (machine::cores() as f64 - self.cores()[0].unwrap_or(0.0)).max(0.0)
    }

    /// The relay's processor time for one of so many requests, in microseconds.
    pub(crate) fn relay_us(&self, requests: u64) -> Option<f64> {
        Some(self.relay? * 1e6 / requests.max(1) as f64)
    }

    pub(crate) fn to_json(self) -> Value {
        json!({
            "load_seconds": self.load, "relay_seconds": self.relay, "issuer_seconds": self.issuer,
            "others_seconds": self.others, "cores_left": self.cores_left(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 10 0 0 0 250 50 1 2 20 0 9 0 100 200 300";
        assert_eq!(ticks_of_process(stat), Some(300));
        assert_eq!(ticks_of_process("7 (cut off"), None);
        let stat = "cpu  100 10 50 9000 800 1 2 3 40 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(ticks_of_machine(stat), Some(166));
        assert_eq!(ticks_of_machine("intr 1"), None);
    }

    #[test]
    fn what_is_left_is_what_the_load_did_not_use() {
        let usage = Usage {
            took: Duration::from_secs(10),
            load: Some(5.0),
            relay: Some(12.0),
            issuer: None,
            others: Some(1.0),
            relay_peak_bytes: None,
        };
        assert_eq!(usage.cores(), [Some(0.5), Some(1.2), None, Some(0.1)]);
        assert_eq!(usage.cores_left(), machine::cores() as f64 - 0.5);
        assert_eq!(usage.relay_us(1_000_000), Some(12.0));
    }
}
