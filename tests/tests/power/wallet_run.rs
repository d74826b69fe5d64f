//! A wallet on a machine that loses power; issuer and relay are on others.

use std::process::Command;

use serde_json::Value;
use tocyn_e2e::bearer::{cell, http_client, read_all};
use tocyn_e2e::disk::{Rules, Strategy};
use tocyn_e2e::faults::Dice;
use tocyn_e2e::programs::program;
use tocyn_e2e::service::Service;
use tocyn_e2e::world::World;

use crate::machine::{Ended, Machine};

/// Tokens on a run's voucher: more than it buys.
const GRANTED: u64 = 4096;
/// The smallest batch that `tocyn` asks for.
pub(crate) const BATCH: u64 = 16;

/// Issuer and relay of all runs of a case.
pub(crate) struct Scene {
    world: World,
    issuer: Service,
    relay: Service,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let world = World::default();
        let (issuer, relay) = (world.start_issuer(), world.start_relay());
        Self { world, issuer, relay }
    }
}

/// One wallet over all its cuts.
pub(crate) struct WalletRun<'a> {
    pub(crate) machine: Machine,
    scene: &'a Scene,
    voucher: Value,
    /// Texts that it has tried to post, and those that were acknowledged.
    texts: Vec<String>,
    acknowledged: Vec<String>,
}

impl<'a> WalletRun<'a> {
    /// A wallet that does not exist yet.
    pub(crate) fn new(scene: &'a Scene, rules: Rules, seed: u64) -> Self {
        let tokens = GRANTED.to_string();
        let create = ["voucher", "create", "--tokens", &tokens, "--json"];
        let voucher = scene.world.issuer_command(&create);
        Self {
            machine: Machine::new(rules, &[], Dice::new(seed)),
            scene,
            voucher: serde_json::from_str(&voucher).expect("JSON"),
            texts: Vec::new(),
            acknowledged: Vec::new(),
        }
    }

    fn tocyn(&mut self, args: &[&str]) -> Ended {
        let mut command = Command::new(program("tocyn"));
        command.arg("--wallet").arg(self.machine.path("wallet")).args(args);
        self.machine.run(&mut command)
    }

    /// Whether it has succeeded. It may fail only where the disk has frozen or refuses something.
    fn outcome(&self, what: &str, ended: Ended) -> Result<Option<String>, String> {
        match ended {
            Ended::Exited(status, said) if status.success() => Ok(Some(said)),
            Ended::Exited(..) if self.machine.disk().counts().refused > 0 => Ok(None),
            Ended::Killed => Ok(None),
            Ended::Exited(_, said) => Err(format!("{what} fails: {said}")),
        }
    }

    /// `tocyn request`.
    pub(crate) fn request(&mut self, count: u64) -> Result<bool, String> {
        let (issuer, relay) = (self.scene.issuer.url(), self.scene.relay.url());
        let code = self.voucher["code"].as_str().expect("a code").to_owned();
        let count = count.to_string();
        let urls = ["request", "--issuer", issuer, "--relay", relay];
        let ended = self.tocyn(&[&urls[..], &["--voucher", &code, "--count", &count]].concat());
        Ok(self.outcome("tocyn request", ended)?.is_some())
    }

    /// `tocyn post` of a text that nobody else posts.
    pub(crate) fn post(&mut self) -> Result<bool, String> {
        let id = self.voucher["id"].as_str().expect("an id");
        let text = format!("message {} of {id}", self.texts.len());
        let file = self.machine.outside("message");
        std::fs::write(&file, &text).expect("a file");
        self.texts.push(text.clone());
        let file = file.to_str().expect("temporary paths are text");
        let relay = self.scene.relay.url();
        let ended = self.tocyn(&["post", "--relay", relay, file, "--json"]);
        let posted = self.outcome("tocyn post", ended)?.is_some();
        if posted {
            self.acknowledged.push(text);
        }
        Ok(posted)
    }

    /// `tocyn post --resume`.
    pub(crate) fn resume(&mut self) -> Result<bool, String> {
        let relay = self.scene.relay.url();
        let ended = self.tocyn(&["post", "--relay", relay, "--resume"]);
        Ok(self.outcome("tocyn post --resume", ended)?.is_some())
    }

    /// The power goes; then all that was promised must hold.
    pub(crate) async fn cut_and_check(&mut self, strategy: Option<Strategy>) -> Result<(), String> {
        match strategy {
            Some(strategy) => self.machine.cut(strategy),
            None => self.machine.cut_somehow(),
        }
        self.check().await
    }

    /// Ends what was begun, then compares the wallet with what the services have.
    pub(crate) async fn check(&mut self) -> Result<(), String> {
        if !self.request(BATCH)? || !self.resume()? || !self.post()? {
            return Err("a command fails on a sound disk".to_owned());
        }
        let ended = self.tocyn(&["balance", "--json"]);
        let said = self.outcome("tocyn balance", ended)?.unwrap_or_default();
        let rows: Value = serde_json::from_str(&said).map_err(|error| error.to_string())?;
        let [pending, unspent, reserved, spent, given_up] =
            ["pending", "unspent", "reserved", "spent", "given_up"]
                .map(|state| rows[0][state].as_u64().unwrap_or(0));
        if pending + reserved + given_up > 0 {
            return Err(format!("something is left to do, or lost: {rows}"));
        }
        let paid = self.paid();
        if unspent + spent != paid {
            return Err(format!(
                "the voucher has paid for {paid} tokens, the wallet has {unspent} and has spent \
                 {spent}"
            ));
        }
        let log = read_all(&http_client(), self.scene.relay.url()).await;
        let times = |text: &String| log.iter().filter(|(_, found)| *found == cell(text)).count();
        if let Some(text) = self.texts.iter().find(|text| times(text) > 1) {
            return Err(format!("{text} was posted {} times", times(text)));
        }
        if let Some(text) = self.acknowledged.iter().find(|text| times(text) != 1) {
            return Err(format!("{text} was posted, and the log does not have it"));
        }
        let posted: usize = self.texts.iter().map(times).sum();
        match posted as u64 == spent {
            true => Ok(()),
            false => Err(format!("the wallet has spent {spent} tokens, the relay took {posted}")),
        }
    }

    /// Posts with every token that is left: none may be spent already.
    pub(crate) async fn spend_all(&mut self) -> Result<(), String> {
        for _ in self.texts.len() as u64..self.paid() {
            self.post()?;
        }
        self.check().await
    }

    /// Tokens that the issuer has charged.
    fn paid(&self) -> u64 {
        let list = self.scene.world.issuer_command(&["voucher", "list", "--json"]);
        let rows: Vec<Value> = serde_json::from_str(&list).expect("JSON");
        let mine = rows.iter().find(|row| row["id"] == self.voucher["id"]);
        GRANTED - mine.expect("its voucher")["balance"].as_u64().expect("a number")
    }
}
