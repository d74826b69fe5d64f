//! What a post costs whom, under proof of work and under tokens. Only arithmetic, after the
//! manner of Tor's proposal 327, "A First Take at PoW Over Introduction Circuits".

/// A puzzle that is asked for with each post.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Puzzle {
    /// Tries a second of one core of this machine.
    pub(crate) tries_per_core: f64,
    /// How many cores' work one of the attacker's does, through other hardware.
    pub(crate) attacker_speedup: f64,
    /// What the relay pays to refuse a wrong solution, in microseconds of a core.
    pub(crate) refuse_us: f64,
}

/// Tokens bought with vouchers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tokens {
    /// What a client pays to blind, finalize and bind one token, in microseconds of this core.
    pub(crate) client_us: f64,
    /// What the relay pays to refuse a token that is not genuine.
    pub(crate) refuse_us: f64,
    /// Vouchers that the attacker gets hold of.
    pub(crate) vouchers: f64,
    /// Tokens that one of them buys in an epoch.
    pub(crate) tokens_per_epoch: f64,
    pub(crate) epoch_hours: f64,
}

/// The honest side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    /// What a phone does in the time in which one core of this machine does 1.
    pub(crate) phone_speed: f64,
    /// Seconds of a phone that the operator is willing to ask for a post.
    pub(crate) phone_seconds: f64,
    /// Posts a second for which relay and readers have room.
    pub(crate) capacity: f64,
    /// Posts a second of honest people.
    pub(crate) honest: f64,
}

const HOUR: f64 = 3600.0;

impl World {
    /// Room that is left for spam, in posts a second.
    fn room(&self) -> f64 {
        self.capacity - self.honest
    }
}

impl Puzzle {
    /// Tries that the operator asks for: as many as a phone makes in the time it may take.
    pub(crate) fn fixed_effort(&self, world: &World) -> f64 {
        world.phone_seconds * world.phone_speed * self.tries_per_core
    }

    /// Posts an hour that an attacker with so many cores gets in at an effort.
    pub(crate) fn spam_per_hour(&self, cores: f64, effort: f64) -> f64 {
        cores * self.tries_per_core * self.attacker_speedup / effort * HOUR
    }

    /// The effort, never below the fixed one, at which the attacker's posts fit the room.
    pub(crate) fn adaptive_effort(&self, world: &World, cores: f64) -> f64 {
        let fixed = self.fixed_effort(world);
        let excess = self.spam_per_hour(cores, fixed) / (world.room() * HOUR);
        fixed * excess.max(1.0)
    }

    /// Seconds of a phone for a post at an effort.
    pub(crate) fn phone_seconds(&self, world: &World, effort: f64) -> f64 {
        effort / (self.tries_per_core * world.phone_speed)
    }
}

impl Tokens {
    /// Posts an hour, over an epoch: what the vouchers buy, unless the cores are too few even
    /// for that.
    pub(crate) fn spam_per_hour(&self, cores: f64) -> f64 {
        let bought = self.vouchers * self.tokens_per_epoch / self.epoch_hours;
        bought.min(cores * 1e6 / self.client_us * HOUR)
    }

    /// Seconds of a phone for a post.
    pub(crate) fn phone_seconds(&self, world: &World) -> f64 {
        self.client_us / 1e6 / world.phone_speed
    }
}

/// Bad posts a second that keep one core of the relay busy.
pub(crate) fn filling_a_core(refuse_us: f64) -> f64 {
    1e6 / refuse_us
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORLD: World =
        World { phone_speed: 0.25, phone_seconds: 1.0, capacity: 11.0, honest: 1.0 };
    const PUZZLE: Puzzle = Puzzle { tries_per_core: 8e6, attacker_speedup: 1.0, refuse_us: 0.125 };
    const TOKENS: Tokens = Tokens {
        client_us: 100.0,
        refuse_us: 25.0,
        vouchers: 10.0,
        tokens_per_epoch: 1680.0,
        epoch_hours: 168.0,
    };

    #[test]
    fn a_fixed_effort_costs_the_phone_what_was_chosen_and_the_attacker_a_quarter() {
        let effort = PUZZLE.fixed_effort(&WORLD);
        assert_eq!(effort, 2e6);
        assert_eq!(PUZZLE.phone_seconds(&WORLD, effort), 1.0);
        // One core makes 4 solutions in the second that a phone needs for one.
        assert_eq!(PUZZLE.spam_per_hour(1.0, effort), 4.0 * 3600.0);
        assert_eq!(PUZZLE.spam_per_hour(1000.0, effort), 4000.0 * 3600.0);
        let gpu = Puzzle { attacker_speedup: 500.0, ..PUZZLE };
        assert_eq!(gpu.spam_per_hour(1.0, effort), 2000.0 * 3600.0);
    }

    #[test]
    fn an_adaptive_effort_lets_in_what_fits_and_the_phone_pays() {
        // Two cores make 8 posts a second, which fit; 10,000 make 40,000 where 10 fit.
        assert_eq!(PUZZLE.adaptive_effort(&WORLD, 2.0), PUZZLE.fixed_effort(&WORLD));
        let effort = PUZZLE.adaptive_effort(&WORLD, 10_000.0);
        assert_eq!(PUZZLE.phone_seconds(&WORLD, effort), 4000.0);
        assert!((PUZZLE.spam_per_hour(10_000.0, effort) - 10.0 * 3600.0).abs() < 1e-6);
        // The speed of the puzzle does not matter, only that of the phone.
        let slow = Puzzle { tries_per_core: 300.0, ..PUZZLE };
        let effort = slow.adaptive_effort(&WORLD, 10_000.0);
        assert!((slow.phone_seconds(&WORLD, effort) - 4000.0).abs() < 1e-6);
    }

    #[test]
    fn vouchers_bound_spam_whatever_the_cores() {
        assert_eq!(TOKENS.spam_per_hour(1.0), 100.0);
        assert_eq!(TOKENS.spam_per_hour(10_000.0), 100.0);
        let many = Tokens { vouchers: 1e9, ..TOKENS };
        assert_eq!(many.spam_per_hour(1.0), 36e6, "then its one core is the limit");
        assert_eq!(TOKENS.phone_seconds(&WORLD), 0.0004);
        assert_eq!(filling_a_core(TOKENS.refuse_us), 40_000.0);
    }
}
