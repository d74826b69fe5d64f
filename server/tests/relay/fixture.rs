//! A store in a temporary folder, and tokens to spend in it.

use std::path::PathBuf;

use bytes::Bytes;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_protocol::issuance::{AmortizedBatchTokenRequest, Issuer};
use tocyn_protocol::pairing::Pairing;
use tocyn_protocol::redemption::{Authorization, Redeemed, Redeemer};
use tocyn_protocol::token::Token;
use tocyn_relay::store::{LogRange, Message, SpendOutcome, Store};

pub(crate) struct Fixture {
    dir: tempfile::TempDir,
    pub(crate) cell_bytes: usize,
    pub(crate) pairing: Pairing,
    pub(crate) store: Store,
}

pub(crate) fn pairing() -> Pairing {
    Pairing::generate("issuer", "relay", 0, 100, &mut UnwrapErr(SysRng)).unwrap()
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with_cells_of(64).await
    }

    pub(crate) async fn with_cells_of(cell_bytes: usize) -> Self {
        let (dir, pairing) = (tempfile::tempdir().unwrap(), pairing());
        let path = dir.path().join("relay.sqlite");
        let store = Store::open(&path, &pairing, cell_bytes).await.unwrap();
        Self { dir, cell_bytes, pairing, store }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("relay.sqlite")
    }

    /// The same database, without anything that the first store has in memory.
    pub(crate) async fn second_store(&self) -> Store {
        Store::open(&self.path(), &self.pairing, self.cell_bytes).await.unwrap()
    }

    pub(crate) async fn reopen(&mut self) {
        self.store.close().await;
        self.store = self.second_store().await;
    }

    pub(crate) fn tokens(&self, epoch: u64, count: usize) -> Vec<Token> {
        let rng = &mut UnwrapErr(SysRng);
        let key = self.pairing.key_pair(epoch);
        let (request, pending) =
            AmortizedBatchTokenRequest::new(key.public(), &self.pairing.challenge(), count, rng)
                .unwrap();
        pending.finalize(&Issuer::new(key).evaluate_batch(&request, rng)).unwrap()
    }

    pub(crate) fn token(&self, epoch: u64) -> Token {
        self.tokens(epoch, 1).remove(0)
    }

    pub(crate) fn message(&self, text: &str) -> Message {
        let mut cell = text.as_bytes().to_vec();
        cell.resize(self.cell_bytes, 0);
        Message::new(Bytes::from(cell))
    }

    pub(crate) fn pay(&self, token: &Token, epoch: u64, text: &str) -> (Redeemed, Message) {
        let message = self.message(text);
        let redeemed = Redeemer::new(&self.pairing, &[epoch])
            .redeem(&Authorization::Bearer(token.clone()), &message.id())
            .unwrap();
        (redeemed, message)
    }

    /// A batch of new messages, each with a token of epoch 0 of its own.
    pub(crate) fn posts(&self, texts: impl Iterator<Item = usize>) -> Vec<(Redeemed, Message)> {
        texts.map(|text| self.pay(&self.token(0), 0, &format!("message {text}"))).collect()
    }

    pub(crate) async fn spend(&self, batch: &[(Redeemed, Message)], now: u64) -> Vec<SpendOutcome> {
        self.store.spend_and_append(batch, now).await.unwrap()
    }

    pub(crate) async fn range(&self) -> (u64, u64) {
        let LogRange { oldest, head } = self.store.range().await.unwrap();
        (oldest, head)
    }
}

pub(crate) fn seq(outcome: &SpendOutcome) -> Option<u64> {
    outcome.stored_seq()
}
