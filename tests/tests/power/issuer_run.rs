//! An issuer on a machine that loses power, and its buyers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;
use tocyn_e2e::bearer::http_client;
use tocyn_e2e::disk::Rules;
use tocyn_e2e::faults::Dice;

use crate::bank::bank;
use crate::issuer_client::{Buyer, Purchases, REQUESTS};
use crate::machine::{Ended, Machine};

/// Buyers at once, each with a voucher of its own.
const BUYERS: usize = 4;
/// Tokens on each voucher: more than a run buys.
pub(crate) const GRANTED: u64 = 10_000;

/// A voucher that `voucher create` has made.
#[derive(Clone, Debug)]
pub(crate) struct Voucher {
    pub(crate) id: String,
    pub(crate) code: String,
}

/// One issuer over all its cuts.
pub(crate) struct IssuerRun {
    pub(crate) machine: Machine,
    pub(crate) url: String,
    http: reqwest::Client,
    /// Those of the buyers first.
    pub(crate) vouchers: Vec<Voucher>,
    /// The next request that nobody has sent.
    next: Arc<AtomicUsize>,
    purchases: Arc<Mutex<Purchases>>,
}

impl IssuerRun {
    /// An issuer that has never run, with vouchers.
    pub(crate) fn new(rules: Rules, seed: u64) -> Result<Self, String> {
        let machine = Machine::new(rules, &[&bank().world.issuer_data()], Dice::new(seed));
        let mut run = Self {
            machine,
            url: String::new(),
            http: http_client(),
            vouchers: Vec::new(),
            next: Arc::default(),
            purchases: Arc::default(),
        };
        run.create_vouchers(BUYERS)?;
        match run.vouchers.len() {
            BUYERS => Ok(run),
            _ => Err("no vouchers were made".to_owned()),
        }
    }

    /// `voucher create`, beside the issuer if that runs. What it prints counts once it has ended
    /// well; it may fail where the disk does.
    pub(crate) fn create_vouchers(&mut self, count: usize) -> Result<(), String> {
        let (count, tokens) = (count.to_string(), GRANTED.to_string());
        let args = ["voucher", "create", "--count", &count, "--tokens", &tokens, "--json"];
        match self.machine.command("tocyn-issuer", "issuer", &args) {
            Ended::Exited(status, said) if status.success() => {
                for line in said.lines().filter(|line| line.starts_with('{')) {
                    let row: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
                    let text = |key: &str| row[key].as_str().expect("a text").to_owned();
                    self.vouchers.push(Voucher { id: text("id"), code: text("code") });
                }
                Ok(())
            }
            Ended::Killed => Ok(()),
            Ended::Exited(..) if self.machine.disk().counts().refused > 0 => Ok(()),
            ended => Err(format!("voucher create: {ended:?}")),
        }
    }

    /// Starts the issuer, which must need nothing by hand. False if the disk froze meanwhile.
    pub(crate) fn start(&mut self) -> Result<bool, String> {
        let Some(url) = self.machine.start("tocyn-issuer", "issuer")? else { return Ok(false) };
        self.url = url;
        Ok(true)
    }

    /// Starts it again if it has ended by itself, as a supervisor does.
    pub(crate) fn supervise(&mut self) -> Result<(), String> {
        match self.machine.has_lost_one() {
            true => self.restart(),
            false => Ok(()),
        }
    }

    /// `kill -9`, and another start.
    pub(crate) fn restart(&mut self) -> Result<(), String> {
        self.machine.kill_and_thaw();
        self.start().map(|_| ())
    }

    pub(crate) fn purchases(&self) -> MutexGuard<'_, Purchases> {
        self.purchases.lock().expect("no panic under the lock")
    }

    pub(crate) fn buyer(&self) -> Buyer {
        Buyer {
            http: self.http.clone(),
            url: self.url.clone(),
            vouchers: self.vouchers[..BUYERS].iter().map(|voucher| voucher.code.clone()).collect(),
            purchases: self.purchases.clone(),
        }
    }

    /// Sends so many fresh requests, by several buyers, until all are answered or the disk freezes;
    /// then the issuer is killed.
    pub(crate) async fn buy(&mut self, count: usize) {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        assert!(first + count <= REQUESTS, "a run has {REQUESTS} requests");
        let turn = Arc::new(AtomicUsize::new(first));
        let mut buyers = tokio::task::JoinSet::new();
        for _ in 0..BUYERS {
            let (buyer, turn) = (self.buyer(), turn.clone());
            buyers.spawn(async move {
                loop {
                    let request = turn.fetch_add(1, Ordering::Relaxed);
                    if request >= first + count || buyer.send(request).await.is_none() {
                        break;
                    }
                }
            });
        }
        while !buyers.is_empty() {
            if self.machine.disk().wait_frozen(Duration::ZERO) {
                self.machine.kill();
            }
            let some = tokio::time::timeout(Duration::from_millis(2), buyers.join_next()).await;
            if let Ok(Some(ended)) = some {
                ended.expect("buyers do not panic");
            }
        }
    }

    /// Sends again what was sent and not answered, as clients do that have no answer.
    pub(crate) async fn send_again(&self) {
        let open = self.purchases().unanswered();
        let buyer = self.buyer();
        for request in open {
            buyer.send(request).await;
        }
    }
}
