//! How much work a proof must show. It follows demand, as in Tor's proposal 327: more than its
//! share of tokens taken makes them dearer within seconds, a quiet time makes them cheaper by a
//! third each minute.

use super::Pow;

/// The share of an epoch's budget that belongs together.
const PERIOD_SECONDS: u64 = 60;
/// One small batch is never too much.
const MIN_SHARE_TOKENS: u64 = 16;

/// The effort of now.
#[derive(Debug)]
pub struct Effort {
    min: u32,
    max: u32,
    /// Tokens that a period may hand out at the price of its start.
    share: u64,
    /// The price at the period's start.
    base: u32,
    /// When it started, and how many tokens had been handed out then.
    period: Option<(u64, u64)>,
    current: u32,
}

impl Effort {
    /// For these settings and epochs of this length.
    pub fn new(pow: &Pow, epoch_seconds: u64) -> Self {
        let share = (pow.budget / epoch_seconds.div_ceil(PERIOD_SECONDS)).max(MIN_SHARE_TOKENS);
        let (min, max) = (pow.min_effort, pow.max_effort);
        Self { min, max, share, base: min, period: None, current: min }
    }

    /// What a challenge asks for now.
    pub fn current(&self) -> u32 {
        self.current
    }

    /// Told again and again how many tokens were handed out for work so far, in all epochs, at `now`
    /// in unix seconds.
    pub fn observe(&mut self, now: u64, handed_out: u64) {
        let (start, before) = match self.period {
            Some((start, before)) if start <= now => (start, before),
            _ => (now, handed_out),
        };
        self.period = Some((start, before));
        let taken = handed_out.saturating_sub(before);
        // Twice the price for twice the share, four times for four times it.
        let doublings = (taken / self.share).checked_ilog2().unwrap_or(0);
        let dearer = u64::from(self.base).checked_shl(doublings).unwrap_or(u64::MAX);
        self.current = u32::try_from(dearer).unwrap_or(u32::MAX).clamp(self.min, self.max);
        if now - start >= PERIOD_SECONDS {
            // Each period that has passed since: nobody may have looked for long.
            let periods = (now - start) / PERIOD_SECONDS;
            self.base = self.current;
            let quiet = if taken < self.share / 2 { periods } else { periods - 1 };
            for _ in 0..quiet.min(64) {
                self.base = (self.base / 3 * 2).max(self.min);
            }
            self.current = self.base;
            self.period = Some((now, handed_out));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effort() -> Effort {
        // 100 periods with 64 tokens each.
        let pow = Pow { enabled: true, budget: 6400, min_effort: 10, max_effort: 1000 };
        Effort::new(&pow, 6000)
    }

    #[test]
    fn demand_makes_it_dearer_at_once_and_quiet_makes_it_cheaper_in_time() {
        let mut effort = effort();
        effort.observe(1000, 0);
        effort.observe(1010, 64);
        assert_eq!(effort.current(), 10, "the share of this minute");
        effort.observe(1020, 128);
        assert_eq!(effort.current(), 20);
        effort.observe(1030, 4 * 64);
        assert_eq!(effort.current(), 40);
        effort.observe(1060, 4 * 64);
        assert_eq!(effort.current(), 40, "a busy minute passes its price on");
        effort.observe(1120, 4 * 64);
        assert_eq!(effort.current(), 26, "a quiet one does not");
        effort.observe(1120 + 600, 4 * 64);
        assert_eq!(effort.current(), 10);
    }

    #[test]
    fn a_flood_reaches_the_bound_and_no_clock_breaks_it() {
        let mut effort = effort();
        effort.observe(1000, 0);
        effort.observe(1001, u64::MAX);
        assert_eq!(effort.current(), 1000);
        effort.observe(1002, 6400);
        assert!(effort.current() > 500);
        effort.observe(5, 6400);
        effort.observe(6, 0);
        effort.observe(u64::MAX, 6400);
        assert_eq!(effort.current(), 10);
    }

    #[test]
    fn a_tenfold_demand_pays_about_tenfold_within_two_minutes() {
        let mut effort = effort();
        let mut handed_out = 0;
        for second in 0..120 {
            handed_out += 640 / 60;
            effort.observe(1000 + second, handed_out);
        }
        assert!((80..=1000).contains(&effort.current()), "{}", effort.current());
    }
}
