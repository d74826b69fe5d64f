//! Clients of a relay on a machine that loses power, what they were told, and whether it holds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_e2e::bearer::{batch, bound, http_client, post};
use tocyn_e2e::disk::{Rules, Strategy};
use tocyn_e2e::faults::Dice;
use tocyn_e2e::world::World;
use tocyn_protocol::issuance::Issuer;
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::log::tree::{Edge, Tree};
use tocyn_protocol::relay::{CellDecoder, MessageId, ProvenReceipt, RelayInfo, pack};
use tocyn_protocol::token::Token;
use tocyn_relay::data_dir::DataDir;
use tokio::task::JoinHandle;

use crate::machine::Machine;

/// Tokens that runs share: each run has a relay of its own, with nothing spent.
const TOKENS: usize = 6000;
/// Clients that post at once.
const POSTERS: usize = 4;

/// A relay's folder as `init` leaves it, and tokens for it.
pub(crate) struct Bank {
    pub(crate) world: World,
    pub(crate) tokens: Vec<Token>,
}

/// Made once for all runs.
pub(crate) fn bank() -> &'static Bank {
    static BANK: OnceLock<Bank> = OnceLock::new();
    BANK.get_or_init(|| {
        let world = World::default();
        let pairing = DataDir::new(world.relay_data()).pairing().expect("init wrote it");
        let epoch = pairing.schedule().epoch_at((tocyn_relay::system_clock())()).expect("it runs");
        let key = pairing.key_pair(epoch);
        let mut tokens = Vec::new();
        while tokens.len() < TOKENS {
            let (request, pending) = batch(key.public(), 500);
            let issuer = Issuer::new(pairing.key_pair(epoch));
            let response = issuer.evaluate_batch(&request, &mut UnwrapErr(SysRng));
            tokens.extend(pending.finalize(&response).expect("genuine tokens"));
        }
        for data in [world.relay_data(), world.issuer_data()] {
            set(&data.join("config.toml"), "listen = [\"unix:admin.sock\"]", "listen = []");
        }
        Bank { world, tokens }
    })
}

/// Changes a line of a settings file.
pub(crate) fn set(path: &std::path::Path, old: &str, new: &str) {
    let text = std::fs::read_to_string(path).expect("the settings");
    assert!(text.contains(old), "{old} is in the settings");
    std::fs::write(path, text.replace(old, new)).expect("the settings");
}

/// What clients know.
#[derive(Clone, Default)]
struct Told {
    /// Sequence and token of each receipt.
    receipts: Vec<(u64, usize)>,
    checkpoints: Vec<Checkpoint>,
    /// What was refused in a way that must not be.
    wrong: Vec<String>,
}

/// One relay over all its cuts.
pub(crate) struct RelayRun {
    pub(crate) machine: Machine,
    pub(crate) url: String,
    http: reqwest::Client,
    cell_bytes: usize,
    key: Option<VerifierKey>,
    /// The next token that nobody has used.
    next: Arc<AtomicUsize>,
    told: Arc<Mutex<Told>>,
    /// Messages of the log that were seen in a check, also of those that are dropped since.
    known: BTreeMap<u64, MessageId>,
}

/// The cell that a token pays for.
fn cell_of(token: usize, cell_bytes: usize) -> Vec<u8> {
    let mut cell = pack(format!("message {token}").as_bytes(), cell_bytes).expect("a short text");
    // Bytes that no other cell has, so that a torn page is noticed.
    let filler = Dice::new(token as u64).throw().to_le_bytes();
    let half = cell.len() / 2;
    cell[half..].iter_mut().zip(filler.iter().cycle()).for_each(|(byte, filler)| *byte = *filler);
    cell
}

impl RelayRun {
    /// A relay that has never run.
    pub(crate) fn new(rules: Rules, seed: u64, cell_bytes: usize, retained: Option<u64>) -> Self {
        let data = prepared(cell_bytes, retained);
        let machine = Machine::new(rules, &[&data], Dice::new(seed));
        Self {
            machine,
            url: String::new(),
            http: http_client(),
            cell_bytes,
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
            url: String::new(),
            http: http_client(),
            cell_bytes: other.cell_bytes,
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
        for _ in 0..4 {
            match self.machine.serve("tocyn-relay", "relay") {
                Ok(url) => {
                    self.url = url;
                    let info = self.get("/v1/info").await?;
                    let info: RelayInfo = serde_json::from_slice(&info).expect("a document");
                    if self.told().receipts.is_empty() && self.told().checkpoints.is_empty() {
                        self.key = Some(info.log_key);
                    } else if self.key.as_ref() != Some(&info.log_key) {
                        return Err("the log has another key".to_owned());
                    }
                    return Ok(true);
                }
                Err(None) => return Ok(false),
                // It may end where a plan refuses it something; its supervisor starts it again.
                Err(Some(_)) if self.machine.disk().counts().refused > 0 => {
                    self.machine.kill_and_thaw();
                }
                Err(Some(said)) => return Err(format!("it does not start: {said}")),
            }
        }
        Err("it does not start, and nothing is refused any more".to_owned())
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().expect("no panic under the lock")
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.told().receipts.len()
    }

    async fn get(&self, path: &str) -> Result<Vec<u8>, String> {
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
                    if number == 0 && token % 8 == 0 {
                        client.take_checkpoint().await;
                    }
                }
            }));
        }
        Posting { clients }
    }

    /// The same post again; gives its status, if there is an answer.
    pub(crate) async fn repeat(&self, token: usize) -> Option<u16> {
        let client = Client {
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

    /// The power goes; then all that was promised must hold.
    pub(crate) async fn cut_and_check(&mut self, strategy: Option<Strategy>) -> Result<(), String> {
        match strategy {
            Some(strategy) => self.machine.cut(strategy),
            None => self.machine.cut_somehow(),
        }
        assert!(self.start().await?, "nothing freezes it");
        self.check().await
    }

    /// Holds the relay, which runs on a sound disk, to all that it has said.
    pub(crate) async fn check(&mut self) -> Result<(), String> {
        let info: RelayInfo = serde_json::from_slice(&self.get("/v1/info").await?).expect("info");
        let mut decoder = CellDecoder::new(self.cell_bytes);
        let log = decoder.push(&self.get("/v1/messages").await?);
        let mut next = info.oldest;
        for (seq, cell) in &log {
            if *seq != next {
                return Err(format!("the log has {seq} in the place of {next}"));
            }
            next += 1;
            self.known.insert(*seq, MessageId::of(cell));
        }
        self.known.split_off(&next); // what was not promised may be gone
        if info.head + 1 != next {
            return Err(format!("the head is {}, the log ends before {next}", info.head));
        }
        self.check_receipts(info.head)?;
        self.check_checkpoints()?;
        self.check_spent().await?;
        self.take_checkpoint().await?;
        if let Some(wrong) = self.told().wrong.first() {
            return Err(wrong.clone());
        }
        let said = self.machine.service("tocyn-relay", "relay", &["db", "check"])?;
        match said.contains("no fault found") {
            true => Ok(()),
            false => Err(format!("db check: {said}")),
        }
    }

    fn check_receipts(&self, head: u64) -> Result<(), String> {
        let told = self.told();
        let mut lost = Vec::new();
        for (seq, token) in &told.receipts {
            let expected = MessageId::of(&cell_of(*token, self.cell_bytes));
            // What is dropped was known, or the whole run has not seen it.
            if *seq > head || self.known.get(seq).is_some_and(|id| *id != expected) {
                lost.push(*seq);
            }
        }
        let newest = told.receipts.iter().map(|(seq, _)| *seq).max().unwrap_or(0);
        match lost.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "{} acknowledged messages are lost, from {} on: {newest} was acknowledged, the \
                 head is {head}",
                lost.len(),
                lost.iter().min().expect("not empty")
            )),
        }
    }

    fn check_checkpoints(&self) -> Result<(), String> {
        let dense = (1..).zip(self.known.iter()).take_while(|(n, (seq, _))| n == *seq);
        let ids: Vec<MessageId> = dense.map(|(_, (_, id))| *id).collect();
        let mut tree = Tree::default();
        ids.iter().for_each(|id| tree.push((*id).into()));
        for checkpoint in &self.told().checkpoints {
            if checkpoint.size > self.known.last_key_value().map_or(0, |(seq, _)| *seq) {
                return Err(format!(
                    "a checkpoint of size {} was signed, and the log has {}",
                    checkpoint.size,
                    ids.len()
                ));
            }
            // Of a log whose beginning was dropped before it was seen, only the size is checked.
            if checkpoint.size <= tree.size()
                && Edge::new(checkpoint.size, &tree).map(|edge| edge.root())
                    != Some(checkpoint.root)
            {
                return Err(format!("the signed checkpoint of size {} forks", checkpoint.size));
            }
        }
        Ok(())
    }

    /// Some spent tokens: the same message has the same number, another one is refused.
    async fn check_spent(&mut self) -> Result<(), String> {
        let receipts = self.told().receipts.clone();
        let newest = receipts.iter().max().copied();
        let some = (0..3).filter(|_| !receipts.is_empty());
        let some: Vec<_> = some
            .map(|_| receipts[self.machine.dice.below(receipts.len() as u64) as usize])
            .chain(newest)
            .collect();
        for (seq, token) in some {
            let status = self.repeat(token).await;
            let last = self.told().receipts.pop();
            if (status, last) != (Some(200), Some((seq, token))) {
                return Err(format!("{seq} sent again is answered {status:?}, {last:?}"));
            }
            let other = cell_of(token + TOKENS, self.cell_bytes);
            let authorization = bound(&bank().tokens[token], &other);
            let answer = post(&self.http, &self.url, &authorization, &other).await;
            let status = answer.map_err(|error| error.to_string())?.status().as_u16();
            if status != 409 {
                return Err(format!("another message with the token of {seq}: {status}"));
            }
        }
        Ok(())
    }
}

/// Posters that run.
pub(crate) struct Posting {
    clients: Vec<JoinHandle<()>>,
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

struct Client {
    http: reqwest::Client,
    url: String,
    key: VerifierKey,
    cell_bytes: usize,
    told: Arc<Mutex<Told>>,
}

impl Client {
    /// The status, and what it promises is written down.
    async fn post(&self, token: usize) -> Option<u16> {
        let cell = cell_of(token, self.cell_bytes);
        let authorization = bound(&bank().tokens[token], &cell);
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

    async fn take_checkpoint(&self) -> Option<()> {
        let answer = self.http.get(format!("{}/checkpoint", self.url)).send().await.ok()?;
        let note = answer.error_for_status().ok()?.text().await.ok()?;
        let checkpoint = Checkpoint::open(&note, &self.key).expect("its own signature");
        self.told.lock().expect("no panic under the lock").checkpoints.push(checkpoint);
        Some(())
    }
}

/// The relay's folder with these settings; made once for each.
fn prepared(cell_bytes: usize, retained: Option<u64>) -> PathBuf {
    static LOCK: Mutex<()> = Mutex::new(());
    let _one = LOCK.lock();
    let world = &bank().world;
    let folder = world.path().join(format!("{cell_bytes}-{}", retained.unwrap_or(0)));
    let data = folder.join("relay");
    if !data.exists() {
        std::fs::create_dir_all(&folder).expect("it is ours");
        let mut copy = std::process::Command::new("cp");
        tocyn_e2e::world::succeed(copy.arg("-a").arg(world.relay_data()).arg(&folder));
        let config = data.join("config.toml");
        set(&config, "cell_bytes = 2048", &format!("cell_bytes = {cell_bytes}"));
        if let Some(bytes) = retained {
            set(&config, "max_bytes = 10000000000", &format!("max_bytes = {bytes}"));
        }
    }
    data
}
