//! `tocyn bench exhaustion`: why tokens rather than proof of work.

mod model;
mod report;

use tocyn_protocol::relay::MessageId;

use self::model::{Puzzle, Tokens, World};
use super::report::Output;
use super::series::within;
use super::steps::{Implementation, Step, Tocyn, measure, timed};
use crate::cli::CliResult;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Cores of the attacker, several numbers.
    #[arg(long, default_value = "1,10,100,1000,10000", value_delimiter = ',', value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    cores: Vec<u32>,
    /// A phone's speed: what it does while one core of this machine does 1. Assumed: phones do
    /// not hold their top speed for long.
    #[arg(long, default_value_t = 0.25, value_name = "RATIO", value_parser = positive)]
    phone_speed: f64,
    /// Seconds of a phone that an operator is willing to ask for a post.
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = positive)]
    phone_seconds: f64,
    /// Posts a second for which relay and readers have room. Each reader downloads all of them.
    #[arg(long, default_value_t = 10.0, value_name = "N", value_parser = positive)]
    capacity: f64,
    /// Posts a second of honest people, below the capacity.
    #[arg(long, default_value_t = 1.0, value_name = "N", value_parser = positive)]
    honest: f64,
    /// How many cores' work one core of the attacker does at SHA-256, through other hardware; a
    /// graphics card does that of a thousand or more.
    #[arg(long, default_value_t = 1.0, value_name = "RATIO", value_parser = positive)]
    hashcash_speedup: f64,
    /// Milliseconds of a core for one Equi-X solution. From its author's figure of 2400 solutions
    /// a second on 8 cores of a Ryzen 1700 (github.com/tevador/equix).
    #[arg(long, default_value_t = 3.3, value_name = "MS", value_parser = positive)]
    equix_solve_ms: f64,
    /// Microseconds of a core to verify an Equi-X solution (same source).
    #[arg(long, default_value_t = 50.0, value_name = "US", value_parser = positive)]
    equix_verify_us: f64,
    /// Vouchers that the attacker gets hold of. Assumed: it depends on who hands them out.
    #[arg(long, default_value_t = 10.0, value_name = "N", value_parser = positive)]
    vouchers: f64,
    /// Tokens that one voucher buys in an epoch. Assumed.
    #[arg(long, default_value_t = 1000.0, value_name = "N", value_parser = positive)]
    voucher_tokens: f64,
    /// Length of an epoch; the issuer's default is a week.
    #[arg(long, default_value_t = 168.0, value_name = "HOURS", value_parser = positive)]
    epoch_hours: f64,
    #[command(flatten)]
    output: Output,
}

fn positive(text: &str) -> Result<f64, String> {
    within(text, 1e-6, 1e12).ok_or("give a number above 0".to_owned())
}

/// Rounds of each measurement; the median counts.
const ROUNDS: usize = 15;
/// Tokens in a request, and in a batch at the relay.
const BATCHES: (usize, usize) = (256, 32);

/// What was measured on one core, in microseconds.
struct Units {
    hash: f64,
    client: f64,
    redeem: f64,
    issue: f64,
}

impl Units {
    fn measure() -> Self {
        let (tocyn, (batch, redeems)) = (Tocyn::new(), BATCHES);
        let mut steps =
            [tocyn.blind(batch), tocyn.finalize(batch), tocyn.bind(batch), tocyn.issue(batch)];
        let times = measure(&mut steps, batch, ROUNDS);
        let redeem = measure(&mut [tocyn.redeem_bound(redeems)], redeems, ROUNDS)[0];
        let hash = measure(&mut [hashes()], HASHES, ROUNDS)[0];
        Self { hash, client: times[..3].iter().sum(), redeem, issue: times[3] }
    }
}

const HASHES: usize = 1000;

/// SHA-256 of what fits into one block, as hashcash counts up in it.
fn hashes() -> Step {
    let mut input = [0; 40];
    Box::new(move || {
        timed(|| {
            for _ in 0..HASHES {
                let id = MessageId::of(std::hint::black_box(&input));
                input[..32].copy_from_slice(id.as_bytes());
            }
        })
    })
}

/// The three designs.
struct Designs {
    world: World,
    hashcash: Puzzle,
    equix: Puzzle,
    tokens: Tokens,
}

pub(crate) fn run(args: &Args) -> CliResult {
    if args.honest >= args.capacity {
        return Err("--honest must be below --capacity".into());
    }
    args.output.check()?;
    let units = Units::measure();
    let designs = Designs {
        world: World {
            phone_speed: args.phone_speed,
            phone_seconds: args.phone_seconds,
            capacity: args.capacity,
            honest: args.honest,
        },
        hashcash: Puzzle {
            tries_per_core: 1e6 / units.hash,
            attacker_speedup: args.hashcash_speedup,
            refuse_us: units.hash,
        },
        equix: Puzzle {
            tries_per_core: 1e3 / args.equix_solve_ms,
            attacker_speedup: 1.0,
            refuse_us: args.equix_verify_us,
        },
        tokens: Tokens {
            client_us: units.client,
            refuse_us: units.redeem,
            vouchers: args.vouchers,
            tokens_per_epoch: args.voucher_tokens,
            epoch_hours: args.epoch_hours,
        },
    };
    args.output.publish(&report::report(args, &units, &designs))
}

/// What comes of one size of attacker.
struct Outcome {
    cores: u32,
    /// Spam an hour: hashcash, Equi-X, tokens.
    spam: [f64; 3],
    /// The same where the effort adapts; tokens have none.
    adaptive_spam: [f64; 2],
    /// Seconds of a phone for a post while it does.
    adaptive_phone: [f64; 2],
}

impl Designs {
    fn outcome(&self, cores: u32) -> Outcome {
        let (world, number) = (&self.world, f64::from(cores));
        let puzzles = [&self.hashcash, &self.equix];
        let fixed = puzzles.map(|p| p.spam_per_hour(number, p.fixed_effort(world)));
        let efforts = puzzles.map(|p| (p, p.adaptive_effort(world, number)));
        Outcome {
            cores,
            spam: [fixed[0], fixed[1], self.tokens.spam_per_hour(number)],
            adaptive_spam: efforts.map(|(p, effort)| p.spam_per_hour(number, effort)),
            adaptive_phone: efforts.map(|(p, effort)| p.phone_seconds(world, effort)),
        }
    }

    /// Seconds of a phone, and what the relay pays to refuse: hashcash, Equi-X, tokens.
    fn costs(&self) -> [(&'static str, f64, f64); 3] {
        let fixed = |p: &Puzzle| p.phone_seconds(&self.world, p.fixed_effort(&self.world));
        [
            ("hashcash", fixed(&self.hashcash), self.hashcash.refuse_us),
            ("Equi-X", fixed(&self.equix), self.equix.refuse_us),
            ("tokens", self.tokens.phone_seconds(&self.world), self.tokens.refuse_us),
        ]
    }
}
