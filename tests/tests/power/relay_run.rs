//! A relay on a machine that loses power, and its clients.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tocyn_e2e::bearer::http_client;
use tocyn_e2e::disk::Rules;
use tocyn_e2e::faults::Dice;
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::relay::{MessageId, RelayInfo};

use crate::bank::{Lease, TOKENS, lease, prepared};
use crate::machine::Machine;
use crate::relay_client::{Client, Posting, Told};

/// Clients that post at once.
const POSTERS: usize = 4;

/// One relay over all its cuts.
pub(crate) struct RelayRun {
    pub(crate) machine: Machine,
    pub(crate) bank: Arc<Lease>,
    pub(crate) url: String,
    pub(crate) http: reqwest::Client,
    pub(crate) cell_bytes: usize,
    /// The data folder, on the disk; the issuer of its pair is in `issuer`.
    pub(crate) folder: String,
    key: Option<VerifierKey>,
    /// The next token that nobody has used.
    next: Arc<AtomicUsize>,
    told: Arc<Mutex<Told>>,
    /// Messages of the log that were seen in a check, also of those that are dropped since.
    pub(crate) known: BTreeMap<u64, MessageId>,
}

impl RelayRun {
    /// A relay that has never run.
    pub(crate) fn new(rules: Rules, seed: u64, cell_bytes: usize, retained: Option<u64>) -> Self {
        let bank = lease();
        let data = prepared(&bank, cell_bytes, retained);
        let issuer = bank.world.issuer_data();
        let machine = Machine::new(rules, &[&data, &issuer], Dice::new(seed));
        Self {
            machine,
            bank,
            url: String::new(),
            http: http_client(),
            cell_bytes,
            folder: "relay".to_owned(),
            key: None,
            next: Arc::default(),
            told: Arc::default(),
            known: BTreeMap::new(),
        }
    }

    /// A relay on a disk of its own that goes on from where another one has stopped.
    pub(crate) fn like(other: &Self, rules: Rules, seed: u64) -> Self {
        Self {
            machine: Machine::like(&other.machine, rules, Dice::new(seed)),
            bank: other.bank.clone(),
            url: String::new(),
            http: http_client(),
            cell_bytes: other.cell_bytes,
            folder: other.folder.clone(),
            key: other.key.clone(),
            next: Arc::new(AtomicUsize::new(other.sent())),
            told: Arc::new(Mutex::new(other.told().clone())),
            known: other.known.clone(),
        }
    }

    /// Starts it again if it has ended by itself, as a supervisor does.
    pub(crate) async fn supervise(&mut self) -> Result<(), String> {
        if self.machine.has_lost_one() {
            self.machine.kill_and_thaw();
            self.start().await?;
        }
        Ok(())
    }

    /// `kill -9`, and another start.
    pub(crate) async fn restart(&mut self) -> Result<(), String> {
        self.machine.kill_and_thaw();
        self.start().await.map(|_| ())
    }

    /// Starts the relay, which must need nothing by hand. False if the disk froze meanwhile.
    pub(crate) async fn start(&mut self) -> Result<bool, String> {
        let Some(url) = self.machine.start("tocyn-relay", &self.folder)? else { return Ok(false) };
        self.url = url;
        let Some(info) = self.first_info().await? else { return Ok(false) };
        if self.told().receipts.is_empty() && self.told().checkpoints.is_empty() {
            self.key = Some(info.log_key);
        } else if self.key.as_ref() != Some(&info.log_key) {
            return Err("the log has another key".to_owned());
        }
        Ok(true)
    }

    /// None if the disk has frozen before the answer.
    async fn first_info(&self) -> Result<Option<RelayInfo>, String> {
        let disk = self.machine.disk();
        let frozen = async {
            while !disk.wait_frozen(Duration::ZERO) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            () = frozen => Ok(None),
            info = self.get("/v1/info") => Ok(Some(serde_json::from_slice(&info?).expect("info"))),
        }
    }

    pub(crate) fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().expect("no panic under the lock")
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.told().receipts.len()
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Vec<u8>, String> {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status);
        let answer = answer.map_err(|error| format!("GET {path}: {error}"))?;
        Ok(answer.bytes().await.map_err(|error| format!("GET {path}: {error}"))?.to_vec())
    }

    /// Takes a signed checkpoint, to hold the relay to it.
    pub(crate) async fn take_checkpoint(&self) -> Result<u64, String> {
        let note = String::from_utf8(self.get("/checkpoint").await?).expect("a note is text");
        let key = self.key.as_ref().expect("it was started");
        let checkpoint = Checkpoint::open(&note, key).expect("its own signature");
        self.told().checkpoints.push(checkpoint);
        Ok(checkpoint.size)
    }

    /// Posts with so many fresh tokens, by several clients, until all is answered or the disk
    /// freezes; then the relay is killed. Says whether all was answered.
    pub(crate) async fn post(&mut self, count: usize) -> bool {
        let posting = self.start_posting(count);
        while !posting.is_finished() {
            if self.machine.disk().wait_frozen(Duration::ZERO) {
                self.machine.kill();
                posting.finish().await;
                return false;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        posting.finish().await;
        true
    }

    pub(crate) fn start_posting(&self, count: usize) -> Posting {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        assert!(first + count <= TOKENS, "a run has {TOKENS} tokens");
        let turn = Arc::new(AtomicUsize::new(first));
        let mut clients = Vec::new();
        for number in 0..POSTERS {
            let client = Client {
                bank: self.bank.clone(),
                http: self.http.clone(),
                url: self.url.clone(),
                key: self.key.clone().expect("it was started"),
                cell_bytes: self.cell_bytes,
                told: self.told.clone(),
            };
            let turn = turn.clone();
            clients.push(tokio::spawn(async move {
                loop {
                    let token = turn.fetch_add(1, Ordering::Relaxed);
                    if token >= first + count || client.post(token).await.is_none() {
                        break;
                    }
                    if number == 0 && token.is_multiple_of(8) {
                        client.take_checkpoint().await;
                    }
                }
            }));
        }
        Posting { clients }
    }

    /// Retries a post; returns the status, if there is an answer.
    pub(crate) async fn repeat(&self, token: usize) -> Option<u16> {
        let client = Client {
            bank: self.bank.clone(),
            http: self.http.clone(),
            url: self.url.clone(),
            key: self.key.clone().expect("it was started"),
            cell_bytes: self.cell_bytes,
            told: self.told.clone(),
        };
        client.post(token).await
    }

    /// Tokens that were ever sent.
    pub(crate) fn sent(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }
}
