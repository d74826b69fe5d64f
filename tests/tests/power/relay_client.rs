//! Clients that post to a relay, and write down what it tells them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tocyn_e2e::bearer::{bound, post};
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::relay::ProvenReceipt;
use tokio::task::JoinHandle;

use crate::bank::{Lease, cell_of};

/// Knowledge of the clients.
#[derive(Clone, Default)]
pub(crate) struct Told {
    /// Sequence and token of each receipt.
    pub(crate) receipts: Vec<(u64, usize)>,
    /// Signed ones.
    pub(crate) checkpoints: Vec<Checkpoint>,
    /// Refusals that must not happen.
    pub(crate) wrong: Vec<String>,
}

/// Posters that run.
pub(crate) struct Posting {
    pub(crate) clients: Vec<JoinHandle<()>>,
}

impl Posting {
    pub(crate) fn is_finished(&self) -> bool {
        self.clients.iter().all(JoinHandle::is_finished)
    }

    /// Waits until all was posted, or the relay answers no more.
    pub(crate) async fn finish(self) {
        for client in self.clients {
            client.await.expect("clients do not panic");
        }
    }
}

/// A client.
pub(crate) struct Client {
    pub(crate) bank: Arc<Lease>,
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
    pub(crate) key: VerifierKey,
    pub(crate) cell_bytes: usize,
    pub(crate) told: Arc<Mutex<Told>>,
}

impl Client {
    /// The status, and what it promises is written down.
    pub(crate) async fn post(&self, token: usize) -> Option<u16> {
        let cell = cell_of(token, self.cell_bytes);
        let authorization = bound(&self.bank.tokens()[token], &cell);
        let sent = post(&self.http, &self.url, &authorization, &cell);
        let answer = tokio::time::timeout(Duration::from_secs(20), sent).await.ok()?.ok()?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await.ok()?;
        let mut told = self.told.lock().expect("no panic under the lock");
        match status {
            200 | 201 => {
                let proven: ProvenReceipt = serde_json::from_slice(&body).expect("a receipt");
                match proven.verify(&self.key) {
                    Ok(checkpoint) => told.checkpoints.push(checkpoint),
                    Err(error) => told.wrong.push(format!("a proof does not hold: {error}")),
                }
                told.receipts.push((proven.receipt.seq, token));
            }
            500.. => {}
            _ => told.wrong.push(format!(
                "token {token} is refused: {status} {}",
                String::from_utf8_lossy(&body)
            )),
        }
        Some(status)
    }

    pub(crate) async fn take_checkpoint(&self) -> Option<()> {
        let answer = self.http.get(format!("{}/checkpoint", self.url)).send().await.ok()?;
        let note = answer.error_for_status().ok()?.text().await.ok()?;
        let checkpoint = Checkpoint::open(&note, &self.key).expect("its own signature");
        self.told.lock().expect("no panic under the lock").checkpoints.push(checkpoint);
        Some(())
    }
}
