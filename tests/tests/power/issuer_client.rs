//! Buyers that send token requests to an issuer, and write down what was answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tocyn_e2e::bearer::{batch, challenge, send};
use tocyn_protocol::issuance::{AmortizedBatchTokenResponse, PendingBatch};

use crate::bank::bank;

/// Requests that runs share: each run has an issuer of its own.
pub(crate) const REQUESTS: usize = 1500;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A token request, and what unblinds its answer.
struct Prepared {
    body: Vec<u8>,
    secrets: Vec<u8>,
}

/// Tokens that a request asks for.
pub(crate) fn tokens(request: usize) -> u64 {
    1 + request as u64 % 3
}

fn prepared(request: usize) -> &'static Prepared {
    static ALL: OnceLock<Vec<Prepared>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let key = bank().key.public();
        let prepare = |request| {
            let (asked, pending) = batch(key, tokens(request) as usize);
            Prepared { body: asked.to_bytes(), secrets: pending.to_bytes().to_vec() }
        };
        (0..REQUESTS).map(prepare).collect()
    });
    &all[request]
}

/// Knowledge of the buyers: for each request, whether tokens came back.
#[derive(Default)]
pub(crate) struct Purchases {
    answered: BTreeMap<usize, bool>,
    /// Answers and refusals that must not happen.
    pub(crate) wrong: Vec<String>,
}

impl Purchases {
    /// Requests without an answer.
    pub(crate) fn unanswered(&self) -> Vec<usize> {
        self.answered.iter().filter(|(_, answered)| !**answered).map(|(n, _)| *n).collect()
    }

    /// Requests that were answered.
    pub(crate) fn answered(&self) -> Vec<usize> {
        self.answered.iter().filter(|(_, answered)| **answered).map(|(n, _)| *n).collect()
    }

    /// Tokens that a voucher must have paid for, and those that it may have paid for.
    pub(crate) fn charged(&self, voucher: usize, vouchers: usize) -> (u64, u64) {
        let of_it = self.answered.iter().filter(|(request, _)| **request % vouchers == voucher);
        of_it.fold((0, 0), |(least, most), (request, answered)| {
            let tokens = tokens(*request);
            (if *answered { least + tokens } else { least }, most + tokens)
        })
    }
}

/// A buyer.
pub(crate) struct Buyer {
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
    /// Request n is paid for with voucher n, modulo their number.
    pub(crate) vouchers: Vec<String>,
    pub(crate) purchases: Arc<Mutex<Purchases>>,
}

impl Buyer {
    /// Sends a request, also one that was sent before; returns the status, if there is an answer.
    pub(crate) async fn send(&self, request: usize) -> Option<u16> {
        let prepared = prepared(request);
        self.note(|purchases| {
            purchases.answered.entry(request).or_insert(false);
        });
        let voucher = &self.vouchers[request % self.vouchers.len()];
        let sent = send(&self.http, &self.url, voucher, prepared.body.clone());
        let answer = tokio::time::timeout(PATIENCE, sent).await.ok()?.ok()?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await.ok()?;
        self.note(|purchases| match status {
            200 if unblinds(prepared, &body) => drop(purchases.answered.insert(request, true)),
            200 => purchases.wrong.push(format!("request {request}: an answer without tokens")),
            500.. => {}
            _ => purchases.wrong.push(format!(
                "request {request} is refused: {status} {}",
                String::from_utf8_lossy(&body)
            )),
        });
        Some(status)
    }

    fn note(&self, note: impl FnOnce(&mut Purchases)) {
        note(&mut self.purchases.lock().expect("no panic under the lock"));
    }
}

fn unblinds(prepared: &Prepared, body: &[u8]) -> bool {
    let key = bank().key.public();
    let pending = PendingBatch::from_bytes(key, &challenge(), &prepared.secrets);
    let (_, pending) = pending.expect("its own bytes");
    let response = AmortizedBatchTokenResponse::from_bytes(body);
    response.is_ok_and(|response| pending.finalize(&response).is_ok())
}
