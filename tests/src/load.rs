//! Clients that buy, post and follow all the while, and write down what they were told.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tocyn_protocol::issuance::{AmortizedBatchTokenResponse, PendingBatch};
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::note::VerifierKey;
use tocyn_protocol::problem::Problem;
use tocyn_protocol::relay::{
    CellDecoder, DEFAULT_CELL_BYTES, MessageId, PostReceipt, ProvenReceipt, RelayInfo,
};
use tocyn_protocol::token::Token;

use crate::bearer::{batch, bound, cell, http_client, post, send, try_current_key};
use crate::cluster::{Cluster, Role};
use crate::faults::Dice;
use crate::history::{FinalState, Issue, IssueOutcome, Log, Post, PostOutcome, Recorder};

/// When a request is given up; it is sent again.
const PATIENCE: Duration = Duration::from_secs(3);
/// When a follower that hears nothing connects anew.
const SILENCE: Duration = Duration::from_secs(3);
/// Vouchers that are bought with, and the tokens on each.
const VOUCHERS: usize = 4;
const GRANTED: u64 = 64_000;

/// What all clients of a run share.
pub struct Load {
    /// What was asked and answered.
    pub recorder: Recorder,
    /// Whose signature the log has.
    log_key: VerifierKey,
    relays: Vec<String>,
    issuers: Vec<String>,
    vouchers: Vec<String>,
    tokens: Mutex<Vec<Token>>,
    /// Tokens that were acknowledged as spent, from the whole run.
    spent: Mutex<Vec<Token>>,
    replayed: AtomicU64,
    stop: AtomicBool,
    bodies: AtomicU64,
    /// When the last post was acknowledged, in milliseconds, and the longest time without one.
    silence: Mutex<(u64, u64)>,
    /// The head that followers must reach before they end; 0 while that is not known.
    head: AtomicU64,
}

/// A post under way: sent until there is a definite answer.
struct Errand {
    token: Token,
    cell: Vec<u8>,
}

impl Load {
    /// Clients of a running cluster, with vouchers of their own.
    pub async fn new(cluster: &Cluster) -> Arc<Self> {
        let urls =
            |role| cluster.with_role(role).iter().map(|node| node.url().to_owned()).collect();
        let relays: Vec<String> = urls(Role::Relay);
        let info = http_client().get(format!("{}/v1/info", relays[0])).send().await;
        let info = info.expect("nothing is wrong yet").json::<RelayInfo>().await;
        Arc::new(Self {
            log_key: info.expect("an info document").log_key,
            recorder: Recorder::new(relays.len()),
            relays,
            issuers: urls(Role::Issuer),
            vouchers: (0..VOUCHERS).map(|_| cluster.voucher(GRANTED)).collect(),
            tokens: Mutex::default(),
            spent: Mutex::default(),
            replayed: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            bodies: AtomicU64::new(0),
            silence: Mutex::default(),
            head: AtomicU64::new(0),
        })
    }

    /// Starts buyers, posters and a follower of each relay; gives what to wait for at the end.
    pub fn start(self: &Arc<Self>, posters: usize, dice: &mut Dice) -> Running {
        let mut clients = tokio::task::JoinSet::new();
        for voucher in 0..VOUCHERS {
            clients.spawn(self.clone().buy_forever(voucher, Dice::new(dice.throw())));
        }
        for _ in 0..posters {
            clients.spawn(self.clone().post_forever(Dice::new(dice.throw())));
        }
        let mut followers = tokio::task::JoinSet::new();
        for relay in 0..self.relays.len() {
            followers.spawn(self.clone().follow_forever(relay));
        }
        Running { clients, followers }
    }

    /// The longest time without an acknowledged post.
    pub fn longest_silence(&self) -> Duration {
        Duration::from_millis(self.silence.lock().expect("no panic under the lock").1)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Sends once, and writes it down.
    async fn try_post(&self, http: &reqwest::Client, errand: &Errand, relay: usize) -> PostOutcome {
        let sent = self.recorder.now();
        let authorization = bound(&errand.token, &errand.cell);
        let answer = post(http, &self.relays[relay], &authorization, &errand.cell).await;
        let (outcome, proven) = self.post_outcome(answer).await;
        let answered = self.recorder.now();
        if outcome.receipt().is_some() {
            let now = answered.as_millis() as u64;
            let mut silence = self.silence.lock().expect("no panic under the lock");
            *silence = (now, silence.1.max(now.saturating_sub(silence.0)));
        }
        let message = MessageId::of(&errand.cell);
        let nonce = *errand.token.nonce();
        let post = Post { nonce, message, sent, answered, outcome: outcome.clone(), proven };
        self.recorder.with(|history| history.posts.push(post));
        outcome
    }

    /// What came, and what its proof led to.
    async fn post_outcome(
        &self,
        answer: reqwest::Result<reqwest::Response>,
    ) -> (PostOutcome, Option<Option<Checkpoint>>) {
        let Ok(answer) = answer else { return (PostOutcome::Unknown, None) };
        let status = answer.status().as_u16();
        let Ok(body) = answer.bytes().await else { return (PostOutcome::Unknown, None) };
        if let (200 | 201, Ok(receipt)) = (status, serde_json::from_slice::<PostReceipt>(&body)) {
            let proven = serde_json::from_slice::<ProvenReceipt>(&body).ok();
            let proven = proven.and_then(|proven| proven.verify(&self.log_key).ok());
            let outcome = match status {
                201 => PostOutcome::Stored(receipt),
                _ => PostOutcome::StoredBefore(receipt),
            };
            return (outcome, Some(proven));
        }
        let outcome = match status {
            500.. => PostOutcome::Unknown,
            409 => PostOutcome::Spent,
            _ => match serde_json::from_slice::<Problem>(&body) {
                Ok(problem) => PostOutcome::Refused(problem.urn),
                Err(_) => PostOutcome::Unknown,
            },
        };
        (outcome, None)
    }

    /// Sends to one relay after the other until there is a definite answer. After the end of the
    /// run nothing is wrong any more, so that this ends.
    async fn post_to_the_end(
        &self,
        http: &reqwest::Client,
        errand: &Errand,
        dice: &mut Dice,
    ) -> PostOutcome {
        loop {
            let relay = dice.below(self.relays.len() as u64) as usize;
            match self.try_post(http, errand, relay).await {
                PostOutcome::Unknown => tokio::time::sleep(Duration::from_millis(20)).await,
                outcome => return outcome,
            }
        }
    }

    async fn post_forever(self: Arc<Self>, mut dice: Dice) {
        let http = impatient_client();
        while !self.stopped() {
            let token = self.tokens.lock().expect("no panic under the lock").pop();
            let Some(token) = token else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let text = |which: &str| cell(&format!("{which} {}", hex::encode(token.nonce())));
            let errand = Errand { cell: text("message"), token: token.clone() };
            let (cheat, again) = (dice.below(10) == 0, dice.below(10) == 0);
            if cheat {
                // The same token for another message, at the same time, wherever that goes.
                let other = Errand { cell: text("other"), token: token.clone() };
                let mut other_dice = Dice::new(dice.throw());
                tokio::join!(
                    self.post_to_the_end(&http, &errand, &mut dice),
                    self.post_to_the_end(&http, &other, &mut other_dice)
                );
            } else {
                self.post_to_the_end(&http, &errand, &mut dice).await;
            }
            if again {
                self.post_to_the_end(&http, &errand, &mut dice).await;
            }
            if dice.below(10) == 0 {
                self.replay(&http, token, &mut dice).await;
            }
        }
    }

    /// Shows a spent token again, of now or of long ago, with another message. Its epoch may be
    /// over by then, and forgotten.
    async fn replay(&self, http: &reqwest::Client, spent: Token, dice: &mut Dice) {
        let token = {
            let mut all = self.spent.lock().expect("no panic under the lock");
            all.push(spent);
            all[dice.below(all.len() as u64) as usize].clone()
        };
        let number = self.replayed.fetch_add(1, Ordering::Relaxed);
        let cell = cell(&format!("replay {number} {}", hex::encode(token.nonce())));
        self.post_to_the_end(http, &Errand { token, cell }, dice).await;
    }

    /// How often a spent token was shown again.
    pub fn replayed(&self) -> u64 {
        self.replayed.load(Ordering::Relaxed)
    }

    async fn buy_forever(self: Arc<Self>, voucher: usize, mut dice: Dice) {
        let http = impatient_client();
        while !self.stopped() {
            if self.tokens.lock().expect("no panic under the lock").len() > 500 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            let issuer = &self.issuers[dice.below(self.issuers.len() as u64) as usize];
            let Some(key) = try_current_key(&http, issuer).await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let (request, pending) = batch(&key, if dice.below(2) == 0 { 16 } else { 64 });
            let body = self.bodies.fetch_add(1, Ordering::Relaxed);
            let bytes = request.to_bytes();
            let mut pending = Some(pending);
            // Sent until there is an answer; sometimes to two issuers at once.
            loop {
                let one = dice.below(self.issuers.len() as u64) as usize;
                let other = dice.below(self.issuers.len() as u64) as usize;
                let ask =
                    |issuer| self.try_buy(&http, voucher, body, &bytes, issuer, request.len());
                let (first, second) = match dice.below(4) {
                    0 => tokio::join!(ask(one), ask(other)),
                    _ => (ask(one).await, None),
                };
                match first.or(second) {
                    Some(Ok(answer)) => {
                        self.stock(pending.take().expect("the loop ends here"), &answer);
                        break;
                    }
                    Some(Err(())) => break,
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        }
    }

    /// None if nobody knows; an error if it was refused.
    async fn try_buy(
        &self,
        http: &reqwest::Client,
        voucher: usize,
        body: u64,
        bytes: &[u8],
        issuer: usize,
        tokens: usize,
    ) -> Option<Result<Vec<u8>, ()>> {
        let answer =
            send(http, &self.issuers[issuer], &self.vouchers[voucher], bytes.to_vec()).await;
        let (outcome, result) = match answer {
            Ok(answer) if answer.status().is_success() => match answer.bytes().await {
                Ok(bytes) => (IssueOutcome::Answered, Some(Ok(bytes.to_vec()))),
                Err(_) => (IssueOutcome::Unknown, None),
            },
            // 429 says that this body was repeated too often: nothing about its charge.
            Ok(answer) if [429, 500, 503].contains(&answer.status().as_u16()) => {
                (IssueOutcome::Unknown, None)
            }
            Ok(answer) => match answer.json::<Problem>().await {
                Ok(problem) => (IssueOutcome::Refused(problem.urn), Some(Err(()))),
                Err(_) => (IssueOutcome::Unknown, None),
            },
            Err(_) => (IssueOutcome::Unknown, None),
        };
        let issue = Issue { voucher, body, tokens: tokens as u64, outcome };
        self.recorder.with(|history| history.issues.push(issue));
        result
    }

    fn stock(&self, pending: PendingBatch, answer: &[u8]) {
        let response = AmortizedBatchTokenResponse::from_bytes(answer).expect("a batch");
        let tokens = pending.finalize(&response).expect("genuine tokens");
        self.tokens.lock().expect("no panic under the lock").extend(tokens);
    }

    /// Reads on from where it was, over as many connections as it takes.
    async fn follow_forever(self: Arc<Self>, relay: usize) {
        let http = http_client();
        let mut last = 0;
        loop {
            let url = format!("{}/v1/messages?follow=true&after={last}", self.relays[relay]);
            let opened = tokio::time::timeout(SILENCE, http.get(url).send()).await;
            if let Ok(Ok(mut stream)) = opened
                && stream.status().is_success()
            {
                let mut decoder = CellDecoder::new(DEFAULT_CELL_BYTES);
                while let Ok(Ok(Some(bytes))) = tokio::time::timeout(SILENCE, stream.chunk()).await
                {
                    let seen: Log = decoder
                        .push(&bytes)
                        .iter()
                        .map(|(seq, cell)| (*seq, MessageId::of(cell)))
                        .collect();
                    last = seen.last().map_or(last, |(seq, _)| *seq);
                    self.recorder.with(|history| history.followers[relay].extend(seen));
                    if self.has_all(last) {
                        return;
                    }
                }
            }
            if self.has_all(last) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn has_all(&self, last: u64) -> bool {
        let head = self.head.load(Ordering::Relaxed);
        head > 0 && last >= head
    }
}

/// Clients that run.
pub struct Running {
    clients: tokio::task::JoinSet<()>,
    followers: tokio::task::JoinSet<()>,
}

impl Running {
    /// Lets every client finish what it has begun, now that nothing is wrong any more, and reads
    /// what there is in the end.
    pub async fn finish(mut self, load: &Load, cluster: &Cluster) -> FinalState {
        load.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("clients do not panic");
        }
        let mut logs = Vec::new();
        for relay in &load.relays {
            logs.push(read_log(relay).await);
        }
        load.head.store(logs[0].last().map_or(0, |(seq, _)| *seq), Ordering::Relaxed);
        while let Some(ended) = self.followers.join_next().await {
            ended.expect("followers do not panic");
        }
        FinalState { logs, vouchers: cluster.vouchers() }
    }
}

async fn read_log(relay: &str) -> Log {
    let cells = crate::bearer::read_all(&http_client(), relay).await;
    cells.iter().map(|(seq, cell)| (*seq, MessageId::of(cell))).collect()
}

fn impatient_client() -> reqwest::Client {
    // What http_client() sets up for all.
    drop(http_client());
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(PATIENCE);
    builder.build().expect("a plain client")
}
