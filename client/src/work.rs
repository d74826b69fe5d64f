//! Tokens for work, from issuers that take it: a puzzle for each batch, solved on all cores.
//! In a program without the feature `pow` there is no solver, and this says so.

use std::time::Duration;

use crate::transport::HttpError;

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkError {
    /// The issuer did not answer, or takes no work.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// This program cannot solve puzzles.
    #[error(
        "this tocyn was built without proof of work (Equi-X is under the LGPL); build it with `--features pow`, or use a voucher"
    )]
    NotBuilt,
    /// What the issuer sent is no puzzle.
    #[error("the issuer's puzzle cannot be read: {0}; tell its operator")]
    Puzzle(String),
    /// It would take longer than the issuer waits.
    #[error("{tokens} tokens would take about {} of work, and the issuer waits {}; so many ask for tokens now. Try later", humantime::format_duration(*.needed), humantime::format_duration(*.time))]
    TooDear {
        /// Tokens of the smallest batch.
        tokens: u64,
        /// What it would take here.
        needed: Duration,
        /// What there is.
        time: Duration,
    },
}

/// How far the work is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Solutions tried.
    pub tried: u64,
    /// Solutions that it takes on average: it may be done sooner, or take several times as many.
    pub expected: u64,
    /// Time since the start.
    pub elapsed: Duration,
}

impl Progress {
    /// How long it takes from now on, on average; none before anything was tried.
    pub fn left(&self) -> Option<Duration> {
        (self.tried > 0).then(|| self.elapsed.mul_f64(self.expected as f64 / self.tried as f64))
    }
}

#[cfg(not(feature = "pow"))]
pub(crate) async fn solve(
    _: &crate::issuer::Counter,
    _: &tocyn_protocol::issuance::AmortizedBatchTokenRequest,
    _: &mut (dyn FnMut(Progress) + Send),
) -> Result<String, WorkError> {
    Err(WorkError::NotBuilt)
}

#[cfg(feature = "pow")]
pub(crate) use solving::solve;

#[cfg(feature = "pow")]
mod solving {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
    use std::time::{Duration, Instant};

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use getrandom::SysRng;
    use rand_core::{Rng, UnwrapErr};
    use tocyn_protocol::issuance::AmortizedBatchTokenRequest;
    use tocyn_protocol::pow::{PowChallenge, PowProof, Solver, WINDOW_SECONDS};
    use tokio::sync::mpsc;

    use super::{Progress, WorkError};
    use crate::issuer::Counter;

    /// How often the caller is told.
    const TELL: Duration = Duration::from_millis(200);
    /// After this time an estimate is good enough to give up by.
    const ESTIMATE: Duration = Duration::from_secs(5);
    /// What is left of the issuer's patience for sending the request.
    const RESERVE: Duration = Duration::from_secs(60);

    /// A proof for this request, base64url.
    pub(crate) async fn solve(
        counter: &Counter,
        request: &AmortizedBatchTokenRequest,
        tell: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<String, WorkError> {
        let bytes = URL_SAFE_NO_PAD.decode(counter.puzzle().await?.challenge);
        let bytes = bytes.map_err(|error| WorkError::Puzzle(error.to_string()))?;
        let challenge = PowChallenge::from_bytes(&bytes)
            .map_err(|error| WorkError::Puzzle(error.to_string()))?;
        let proof = search(challenge, &request.to_bytes(), request.len() as u64, tell).await?;
        Ok(URL_SAFE_NO_PAD.encode(proof.to_bytes()))
    }

    /// Ends the threads when it is dropped, whether they found something or not.
    struct Stop(Arc<AtomicBool>);

    impl Drop for Stop {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }

    async fn search(
        challenge: PowChallenge,
        body: &[u8],
        tokens: u64,
        tell: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<PowProof, WorkError> {
        let (start, tried) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let stop = Stop(Arc::default());
        let (found, mut finds) = mpsc::channel(1);
        let mut expected = 0;
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let mut nonce = [0; 16];
            UnwrapErr(SysRng).fill_bytes(&mut nonce);
            let mut solver = Solver::new(challenge, body, tokens, nonce);
            expected = solver.expected();
            let (found, tried, stop) = (found.clone(), tried.clone(), stop.0.clone());
            std::thread::spawn(move || {
                while !stop.load(Relaxed) {
                    match solver.step() {
                        Ok(proof) => return drop(found.try_send(proof)),
                        Err(solutions) => drop(tried.fetch_add(solutions, Relaxed)),
                    }
                }
            });
        }
        let time = Duration::from_secs(WINDOW_SECONDS) - RESERVE;
        loop {
            let found = tokio::time::timeout(TELL, finds.recv()).await;
            if let Ok(Some(proof)) = found {
                return Ok(proof);
            }
            let progress =
                Progress { tried: tried.load(Relaxed), expected, elapsed: start.elapsed() };
            tell(progress);
            let needed = progress.left().unwrap_or_default();
            if start.elapsed() > time || start.elapsed() > ESTIMATE && needed > time {
                return Err(WorkError::TooDear { tokens, needed: needed.max(time), time });
            }
        }
    }
}
