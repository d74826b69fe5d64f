//! The steps of a token, as something to measure: each goes from wire bytes to wire bytes.

use std::time::{Duration, Instant};

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_protocol::challenge::TokenChallenge;
use tocyn_protocol::issuance::{
    AmortizedBatchTokenRequest, AmortizedBatchTokenResponse, Issuer, PendingBatch,
};
use tocyn_protocol::keys::PublicKey;
use tocyn_protocol::pairing::Pairing;
use tocyn_protocol::redemption::{Authorization, BoundToken, Redeemer};
use tocyn_protocol::relay::MessageId;
use tocyn_protocol::token::Token;
use zeroize::Zeroizing;

/// Runs one step for a whole batch once, and says how long it took. What the step starts from
/// is made before the clock runs.
pub(crate) type Step = Box<dyn FnMut() -> Duration + Send>;

/// An implementation of the steps.
pub(crate) trait Implementation {
    /// Its name.
    #[cfg(feature = "versus")]
    fn name(&self) -> &'static str;
    /// The client makes `count` tokens and blinds them.
    fn blind(&self, count: usize) -> Step;
    /// The issuer decodes a request, evaluates it, proves it and encodes the answer.
    fn issue(&self, count: usize) -> Step;
    /// The client decodes the answer, checks the proof and unblinds.
    fn finalize(&self, count: usize) -> Step;
    /// The relay verifies tokens.
    fn redeem(&self, count: usize) -> Step;
}

/// The time of `run`. What it gives is kept until the clock has stopped.
pub(crate) fn timed<T>(run: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    let value = std::hint::black_box(run());
    let took = start.elapsed();
    drop(value);
    took
}

/// Median of `rounds` rounds, in microseconds for each token; the steps take turns, so that what
/// else the machine does falls on all of them.
pub(crate) fn measure(steps: &mut [Step], count: usize, rounds: usize) -> Vec<f64> {
    const ROUND: Duration = Duration::from_millis(20);
    let repeats: Vec<u32> = steps
        .iter_mut()
        .map(|step| {
            step(); // once to warm up
            (ROUND.as_nanos() / step().as_nanos().max(1)).clamp(1, 100_000) as u32
        })
        .collect();
    let mut times = vec![Vec::with_capacity(rounds); steps.len()];
    for _ in 0..rounds {
        for ((step, repeats), times) in steps.iter_mut().zip(&repeats).zip(&mut times) {
            let total: Duration = (0..*repeats).map(|_| step()).sum();
            times.push(total.as_secs_f64() * 1e6 / f64::from(*repeats) / count as f64);
        }
    }
    times
        .into_iter()
        .map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        })
        .collect()
}

/// This project's own code.
pub(crate) struct Tocyn {
    pairing: Pairing,
    challenge: TokenChallenge,
    public: PublicKey,
}

const RELAY_NAME: &str = "relay.example";

fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

impl Tocyn {
    pub(crate) fn new() -> Self {
        let pairing = Pairing::generate("issuer.example", RELAY_NAME, 0, 86_400, &mut rng())
            .expect("the names are good");
        let (challenge, public) = (pairing.challenge(), *pairing.key_pair(0).public());
        Self { pairing, challenge, public }
    }

    fn issuer(&self) -> Issuer {
        Issuer::new(self.pairing.key_pair(0))
    }

    fn batch(&self, count: usize) -> (AmortizedBatchTokenRequest, PendingBatch) {
        AmortizedBatchTokenRequest::new(&self.public, &self.challenge, count, &mut rng())
            .expect("a good count")
    }
}

impl Implementation for Tocyn {
    #[cfg(feature = "versus")]
    fn name(&self) -> &'static str {
        "tocyn"
    }

    fn blind(&self, count: usize) -> Step {
        let (public, challenge) = (self.public, self.challenge.clone());
        Box::new(move || {
            timed(|| {
                let made = AmortizedBatchTokenRequest::new(&public, &challenge, count, &mut rng());
                let (request, pending) = made.expect("a good count");
                (request.to_bytes(), pending)
            })
        })
    }

    fn issue(&self, count: usize) -> Step {
        let (issuer, wire) = (self.issuer(), self.batch(count).0.to_bytes());
        Box::new(move || {
            timed(|| {
                let request = AmortizedBatchTokenRequest::from_bytes(&wire).expect("it is good");
                issuer.evaluate_batch(&request, &mut rng()).to_bytes()
            })
        })
    }

    fn finalize(&self, count: usize) -> Step {
        let (request, pending) = self.batch(count);
        let wire = self.issuer().evaluate_batch(&request, &mut rng()).to_bytes();
        let (saved, public, challenge) = (pending.to_bytes(), self.public, self.challenge.clone());
        Box::new(move || {
            let again = PendingBatch::from_bytes(&public, &challenge, &saved);
            let pending = again.expect("it was saved").1;
            timed(|| {
                let answer = AmortizedBatchTokenResponse::from_bytes(&wire).expect("it is good");
                pending.finalize(&answer).expect("it is genuine")
            })
        })
    }

    fn redeem(&self, count: usize) -> Step {
        let wire: Vec<_> = self.tokens(count).iter().map(Token::to_bytes).collect();
        let redeemer = Redeemer::new(&self.pairing, &[0]);
        Box::new(move || {
            timed(|| {
                let decode = |bytes: &Zeroizing<Vec<u8>>| {
                    Authorization::Bearer(Token::from_bytes(bytes).expect("it is good"))
                };
                verify(&redeemer, wire.iter().map(decode).collect())
            })
        })
    }
}

impl Tocyn {
    /// The same for tokens that are bound to a message, from the header to the verdict: what a
    /// relay does with the posts of our client.
    pub(crate) fn redeem_bound(&self, count: usize) -> Step {
        let headers: Vec<String> = self
            .tokens(count)
            .iter()
            .map(|token| BoundToken::new(token, RELAY_NAME, &message_id()).header_value())
            .collect();
        let redeemer = Redeemer::new(&self.pairing, &[0]);
        Box::new(move || {
            timed(|| {
                let parse = |header: &String| Authorization::parse(header).expect("it is good");
                verify(&redeemer, headers.iter().map(parse).collect())
            })
        })
    }

    /// The client binds tokens to a message, up to the header.
    pub(crate) fn bind(&self, count: usize) -> Step {
        let tokens = self.tokens(count);
        Box::new(move || {
            timed(|| {
                let bind = |token| BoundToken::new(token, RELAY_NAME, &message_id()).header_value();
                tokens.iter().map(bind).collect::<Vec<_>>()
            })
        })
    }

    fn tokens(&self, count: usize) -> Vec<Token> {
        let (request, pending) = self.batch(count);
        let answer = self.issuer().evaluate_batch(&request, &mut rng());
        pending.finalize(&answer).expect("it is genuine")
    }
}

fn message_id() -> MessageId {
    MessageId::from_bytes([7; 32])
}

fn verify(redeemer: &Redeemer, authorizations: Vec<Authorization>) -> usize {
    let batch: Vec<_> = authorizations.iter().map(|token| (token, message_id())).collect();
    let redeemed = redeemer.redeem_batch(&batch);
    assert!(redeemed.iter().all(Result::is_ok));
    redeemed.len()
}
