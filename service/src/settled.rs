//! The time by which something may be destroyed for ever. One jump of the clock must not decide
//! that: it is believed once it has lasted.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::time_text;

/// How far the clock may run ahead of the time that has passed, in seconds, without being a jump.
pub const TOLERANCE_SECONDS: u64 = 600;
/// How long a jump must last to be believed, where the operator says nothing else: time enough to see
/// the warning, or for the clock to be set right.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(3600);

/// The clock without its jumps ahead. The database has a copy of it, so that a start with a wrong
/// clock is a jump too.
pub struct SettledClock {
    /// How long a jump must last to be believed.
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<Point>,
    /// Where the clock went when it jumped, if that is not believed yet.
    jump: Option<Point>,
}

/// A time, and when it was.
#[derive(Clone, Copy)]
struct Point {
    /// Unix seconds.
    time: u64,
    at: Instant,
}

impl Point {
    /// The time at `at`, in unix seconds, by a clock that has run from here without jumping.
    fn time_at(&self, at: Instant) -> u64 {
        self.time.saturating_add(at.saturating_duration_since(self.at).as_secs())
    }
}

/// Result of [`SettledClock::settle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Unix seconds; never after the clock.
    pub time: u64,
    /// The time to note in the database, where the one in it is too far off.
    pub to_note: Option<u64>,
}

impl SettledClock {
    /// Believes a jump after this time. With zero it believes every clock.
    pub fn new(patience: Duration) -> Self {
        Self { patience, state: Mutex::default() }
    }

    /// The time by which things may be destroyed. `now` is the clock in unix seconds, read at `at`;
    /// `noted` is the time in the database, None before the first. Tells the operator of a jump,
    /// once.
    pub fn settle(&self, now: u64, at: Instant, noted: Option<u64>) -> Settled {
        let mut state = self.state.lock().expect("no panic under the lock");
        // Another process may have accepted a later time, or this one before its restart.
        let last = state.last.map(|last| last.time_at(at)).max(noted);
        let time = match last {
            Some(last) if now > last.saturating_add(TOLERANCE_SECONDS) => {
                if self.believes(&mut state.jump, last, now, at) { now } else { last }
            }
            _ => {
                if state.jump.take().is_some() {
                    tracing::info!("the clock agrees with the time that has passed again");
                }
                now
            }
        };
        state.last = Some(Point { time, at });
        let is_far = |noted: &u64| time.abs_diff(*noted) > TOLERANCE_SECONDS;
        let to_note = noted.as_ref().is_none_or(is_far).then_some(time);
        Settled { time, to_note }
    }

    /// Whether a clock that is ahead has stayed there for long enough.
    fn believes(&self, jump: &mut Option<Point>, last: u64, now: u64, at: Instant) -> bool {
        let is_same = |jump: &Point| jump.time_at(at).abs_diff(now) <= TOLERANCE_SECONDS;
        let before = jump.filter(is_same);
        let first = before.unwrap_or(Point { time: now, at });
        let lasted = at.saturating_duration_since(first.at);
        if lasted >= self.patience {
            *jump = None;
            tracing::info!(
                ahead_seconds = now - last,
                "the clock has stayed ahead: what is too old by it is deleted from now on"
            );
            return true;
        }
        *jump = Some(first);
        if before.is_none() {
            tracing::warn!(
                ahead_seconds = now - last,
                "the clock shows {}, and by the time that has passed it is {}: nothing is deleted by \
                 the clock until it has stayed so for {}. If it is wrong, set it right before then; \
                 if this machine was off or asleep, there is nothing to do",
                time_text(now),
                time_text(last),
                humantime::format_duration(self.patience),
            );
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;

    /// A clock that was right at the start, and the time by it after so many seconds.
    struct Scene {
        clock: SettledClock,
        start: Instant,
        noted: Option<u64>,
    }

    impl Scene {
        fn new(patience: u64) -> Self {
            let clock = SettledClock::new(Duration::from_secs(patience));
            let mut scene = Self { clock, start: Instant::now(), noted: None };
            assert_eq!(scene.settle(0, NOW), NOW, "the first start takes the clock as it is");
            assert_eq!(scene.noted, Some(NOW));
            scene
        }

        /// As after a start, with what the database has.
        fn restart(&mut self) {
            self.clock = SettledClock::new(self.clock.patience);
        }

        fn settle(&mut self, passed: u64, now: u64) -> u64 {
            let at = self.start + Duration::from_secs(passed);
            let settled = self.clock.settle(now, at, self.noted);
            self.noted = settled.to_note.or(self.noted);
            assert!(settled.time <= now);
            settled.time
        }
    }

    #[test]
    fn a_jump_ahead_is_believed_when_it_has_lasted() {
        let mut scene = Scene::new(HOUR);
        let ahead = NOW + 91 * DAY;
        for passed in [30, 60, 1800, 30 + HOUR - 1] {
            assert_eq!(scene.settle(passed, ahead + passed), NOW + passed);
        }
        assert_eq!(scene.settle(30 + HOUR, ahead + 30 + HOUR), ahead + 30 + HOUR);
        assert_eq!(scene.noted, Some(ahead + 30 + HOUR));
        assert_eq!(scene.settle(60 + HOUR, ahead + 60 + HOUR), ahead + 60 + HOUR);
    }

    #[test]
    fn a_jump_that_ends_counts_for_nothing() {
        let mut scene = Scene::new(HOUR);
        assert_eq!(scene.settle(30, NOW + 91 * DAY), NOW + 30);
        assert_eq!(scene.settle(60, NOW + 60), NOW + 60);
        // The next one has to last anew, wherever it goes, and so does one that jumps on.
        assert_eq!(scene.settle(HOUR, NOW + HOUR + 91 * DAY), NOW + HOUR);
        assert_eq!(scene.settle(2 * HOUR - 1, NOW + 365 * DAY), NOW + 2 * HOUR - 1);
        assert_eq!(scene.settle(2 * HOUR, NOW + HOUR + 365 * DAY), NOW + 2 * HOUR);
        assert_eq!(scene.settle(2 * HOUR + 1, NOW + 91 * DAY), NOW + 2 * HOUR + 1);
    }

    #[test]
    fn a_restart_while_the_clock_is_ahead_is_no_way_around() {
        let mut scene = Scene::new(HOUR);
        for passed in (0..20 * HOUR).step_by(1800) {
            scene.restart();
            let settled = scene.settle(passed, NOW + passed + 91 * DAY);
            assert!(settled <= NOW + passed, "{passed}");
        }
        scene.restart();
        assert_eq!(scene.settle(20 * HOUR, NOW + 300), NOW + 300);
    }

    #[test]
    fn a_clock_that_goes_back_is_taken_at_once() {
        let mut scene = Scene::new(HOUR);
        assert_eq!(scene.settle(30, NOW - 5 * DAY), NOW - 5 * DAY);
        assert_eq!(scene.noted, Some(NOW - 5 * DAY));
        assert_eq!(scene.settle(60, NOW), NOW - 5 * DAY + 30, "forward again is a jump");
    }

    #[test]
    fn a_clock_that_drifts_is_followed() {
        let mut scene = Scene::new(HOUR);
        // Ten minutes too fast in every hour.
        let mut now = NOW;
        for hour in 1..100 {
            now += HOUR + 600;
            assert_eq!(scene.settle(hour * HOUR, now), now, "{hour}");
        }
        assert!(scene.noted.unwrap().abs_diff(now) <= TOLERANCE_SECONDS);
    }

    #[test]
    fn a_machine_that_slept_or_was_off_waits_once() {
        for restarts in [false, true] {
            let mut scene = Scene::new(HOUR);
            assert_eq!(scene.settle(DAY, NOW + DAY), NOW + DAY);
            if restarts {
                scene.restart();
            }
            // A week of which this process knows nothing.
            let woken = NOW + 8 * DAY;
            assert!(scene.settle(DAY + 1, woken) <= NOW + DAY + 1);
            assert_eq!(scene.settle(DAY + 1 + HOUR, woken + HOUR), woken + HOUR);
        }
    }

    #[test]
    fn what_another_process_has_believed_is_believed() {
        let mut scene = Scene::new(HOUR);
        let ahead = NOW + 8 * DAY;
        assert_eq!(scene.settle(30, ahead), NOW + 30);
        scene.noted = Some(ahead);
        assert_eq!(scene.settle(60, ahead + 30), ahead + 30);
    }

    #[test]
    fn without_patience_every_clock_is_believed() {
        let mut scene = Scene::new(0);
        assert_eq!(scene.settle(1, NOW + 91 * DAY), NOW + 91 * DAY);
        assert_eq!(scene.settle(2, NOW), NOW);
    }
}
