//! How often something happened under a key in the last minute: what a service does for the same token
//! or voucher again and again is bounded, though each time it is a stranger's connection.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Counts are of windows of this length.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Keys that are counted at once; 64 bytes each.
const MAX_KEYS: usize = 65_536;

/// Counts by key.
pub struct Tally {
    max: u32,
    counts: Mutex<HashMap<[u8; 32], Count>>,
}

struct Count {
    since: Instant,
    times: u32,
}

impl Tally {
    /// So many times are let pass in a window.
    pub fn new(max: u32) -> Self {
        Self { max, counts: Mutex::default() }
    }

    /// How long to wait under this key, if it has had its times.
    pub fn must_wait(&self, key: &[u8; 32]) -> Option<Duration> {
        let counts = self.counts.lock().expect("no panic under the lock");
        let count = counts.get(key)?;
        let left = WINDOW.checked_sub(count.since.elapsed())?;
        (count.times >= self.max).then_some(left)
    }

    /// Counts one.
    pub fn count(&self, key: &[u8; 32]) {
        let now = Instant::now();
        let mut counts = self.counts.lock().expect("no panic under the lock");
        if counts.len() >= MAX_KEYS && !counts.contains_key(key) {
            counts.retain(|_, count| now.duration_since(count.since) < WINDOW);
            if counts.len() >= MAX_KEYS {
                counts.clear();
            }
        }
        let count = counts.entry(*key).or_insert(Count { since: now, times: 0 });
        if now.duration_since(count.since) >= WINDOW {
            *count = Count { since: now, times: 0 };
        }
        count.times = count.times.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_times() {
        let (tally, one, other) = (Tally::new(2), [1; 32], [2; 32]);
        for _ in 0..2 {
            assert_eq!(tally.must_wait(&one), None);
            tally.count(&one);
        }
        assert!(tally.must_wait(&one).unwrap() <= WINDOW);
        assert_eq!(tally.must_wait(&other), None);
        // As if a minute had passed.
        let mut counts = tally.counts.lock().unwrap();
        counts.get_mut(&one).unwrap().since -= WINDOW;
        drop(counts);
        assert_eq!(tally.must_wait(&one), None);
        tally.count(&one);
        assert_eq!(tally.must_wait(&one), None, "it counts from zero again");
    }

    #[test]
    fn it_stays_small() {
        let tally = Tally::new(1);
        for number in 0..2 * MAX_KEYS as u64 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_le_bytes());
            tally.count(&key);
        }
        assert!(tally.counts.lock().unwrap().len() <= MAX_KEYS);
    }
}
