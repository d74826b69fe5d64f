//! The token requests of a benchmark, blinded before its clock runs.

use std::sync::Arc;

use indicatif::ProgressBar;
use tocyn_protocol::challenge::TokenChallenge;
use tocyn_protocol::issuance::{AmortizedBatchTokenResponse, PendingBatch};
use tocyn_protocol::keys::PublicKey;

use super::super::load::{Answer, Request, Source, Verdict};
use super::super::machine;
use super::super::tokens::blind;
use crate::cli::CliResult;

/// How many answers of each core's requests have their proof checked after the clock has
/// stopped. Of the others only the length is.
const CHECKED: usize = 16;

/// Requests of one size, each with blinded elements of its own.
pub(crate) struct Requests {
    head: Arc<[u8]>,
    bodies: Vec<Arc<[u8]>>,
    answer_bytes: usize,
    checked: Vec<Checked>,
}

struct Checked {
    body: Arc<[u8]>,
    pending: PendingBatch,
    answer: Option<Vec<u8>>,
}

impl Requests {
    /// Blinds `count` batches on all cores. Each is sent with the head for its length; all have
    /// the same.
    pub(crate) fn prepare(
        key: &PublicKey,
        challenge: &TokenChallenge,
        batch: usize,
        count: usize,
        head: impl Fn(usize) -> String,
        bar: &ProgressBar,
    ) -> CliResult<Self> {
        let cores = machine::cores();
        let made = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..cores)
                .map(|core| {
                    scope.spawn(move || {
                        (0..(count + core) / cores)
                            .map(|n| {
                                let (request, pending) = blind(key, challenge, batch)?;
                                bar.inc(1);
                                let body: Arc<[u8]> = request.to_bytes().into();
                                Ok((body, (n < CHECKED).then_some(pending)))
                            })
                            .collect::<Result<Vec<_>, Box<dyn std::error::Error + Send + Sync>>>()
                    })
                })
                .collect();
            let joined = threads.into_iter().map(|t| t.join().expect("blinding does not panic"));
            joined.collect::<Result<Vec<_>, _>>()
        });
        let made: Vec<_> = made.map_err(|error| error.to_string())?.into_iter().flatten().collect();
        // They are taken from the end: those to check come first.
        let bodies: Vec<_> = made.iter().rev().map(|(body, _)| body.clone()).collect();
        let checked = made
            .into_iter()
            .filter_map(|(body, pending)| Some(Checked { body, pending: pending?, answer: None }));
        Ok(Self {
            head: head(bodies.first().map_or(0, |body| body.len())).into_bytes().into(),
            bodies,
            answer_bytes: answer_bytes(batch),
            checked: checked.collect(),
        })
    }

    /// Checks the proofs of some answers; gives how many it checked.
    pub(crate) fn check_proofs(self) -> CliResult<usize> {
        let mut count = 0;
        for Checked { pending, answer, .. } in self.checked {
            let Some(answer) = answer else { continue }; // not asked, or answered that it is busy
            pending.finalize(&AmortizedBatchTokenResponse::from_bytes(&answer)?)?;
            count += 1;
        }
        Ok(count)
    }
}

/// Length of an answer: elements with their length before them, and the proof.
fn answer_bytes(batch: usize) -> usize {
    use tocyn_protocol::suite::{NE, PROOF_BYTES};
    let varint = match batch * NE {
        0..=63 => 1,
        64..=16_383 => 2,
        _ => 4,
    };
    varint + batch * NE + PROOF_BYTES
}

impl Source for Requests {
    const KINDS: &'static [&'static str] = &["requests"];

    fn next(&mut self, _connection: usize) -> Option<Request> {
        let tail = self.bodies.pop()?;
        Some(Request { kind: 0, head: self.head.clone(), tail })
    }

    fn check(&mut self, _connection: usize, request: &Request, answer: &Answer<'_>) -> Verdict {
        match answer.status {
            503 => return Verdict::Busy,
            200 if answer.body.len() == self.answer_bytes => {}
            _ => return Verdict::Wrong,
        }
        let checked = self.checked.iter_mut().find(|c| Arc::ptr_eq(&c.body, &request.tail));
        if let Some(checked) = checked {
            checked.answer = Some(answer.body.to_vec());
        }
        Verdict::Good
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use getrandom::SysRng;
    use rand_core::UnwrapErr;
    use tocyn_protocol::issuance::{AmortizedBatchTokenRequest, Issuer};
    use tocyn_protocol::keys::KeyPair;

    #[test]
    fn answers_are_judged() {
        for batch in [1, 2, 64, 600] {
            let issuer = Issuer::new(KeyPair::derive(&[1; 32], b"test"));
            let key = *KeyPair::derive(&[1; 32], b"test").public();
            let challenge = TokenChallenge::new("issuer", None, "relay").unwrap();
            let bar = ProgressBar::hidden();
            let prepare = || {
                Requests::prepare(&key, &challenge, batch, 3, |bytes| bytes.to_string(), &bar)
                    .unwrap()
            };
            let evaluate = |body: &[u8]| {
                let request = AmortizedBatchTokenRequest::from_bytes(body).unwrap();
                issuer.evaluate_batch(&request, &mut UnwrapErr(SysRng)).to_bytes()
            };

            let mut requests = prepare();
            while let Some(request) = requests.next(0) {
                let body = evaluate(&request.tail);
                let mut check =
                    |status, body: &[u8]| requests.check(0, &request, &Answer { status, body });
                assert_eq!(check(503, b""), Verdict::Busy);
                assert_eq!(check(200, &body[1..]), Verdict::Wrong);
                assert_eq!(check(403, &body), Verdict::Wrong);
                assert_eq!(check(200, &body), Verdict::Good, "{batch}");
            }
            assert_eq!(requests.check_proofs().unwrap(), 3);

            let mut requests = prepare();
            let (one, other) = (requests.next(0).unwrap(), requests.next(0).unwrap());
            let body = evaluate(&other.tail);
            let swapped = Answer { status: 200, body: &body };
            assert_eq!(requests.check(0, &one, &swapped), Verdict::Good, "its length is right");
            assert!(requests.check_proofs().is_err());
        }
    }
}
