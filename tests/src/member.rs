//! Members of groups, each with a wallet of its own, through the client's library.

use std::path::{Path, PathBuf};
use std::time::Duration;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_client::group::GroupSecret;
use tocyn_client::group::invite::Invite;
use tocyn_client::group::message::AuthorKey;
use tocyn_client::issuer::IssuerClient;
use tocyn_client::pins::{Met, meet};
use tocyn_client::relay::RelayClient;
use tocyn_client::request::{Pays, agree, request};
use tocyn_client::send::{SendError, compose, queue, send_waiting};
use tocyn_client::session::Session;
use tocyn_client::sync::{Options, Source, SyncError, Synced, sync};
use tocyn_client::transport::Transport;
use tocyn_client::trust::TrustError;
use tocyn_client::wallet::{
    FaultFound, Group, GroupHealth, NewGroup, StoredMessage, Wallet, WalletError,
};
use tocyn_protocol::relay::RelayInfo;
use tocyn_protocol::statement::Commitment;
use tocyn_protocol::statement::chain::Chain;

use crate::bearer::clock;

/// Why something is not said.
#[derive(Debug)]
pub enum SayError {
    /// The relay shows other keys than it should.
    Trust(TrustError),
    /// It was not sent.
    Send(SendError),
}

impl From<TrustError> for SayError {
    fn from(error: TrustError) -> Self {
        Self::Trust(error)
    }
}

impl From<SendError> for SayError {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

impl From<WalletError> for SayError {
    fn from(error: WalletError) -> Self {
        Self::Send(error.into())
    }
}

impl std::fmt::Display for SayError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Trust(error) => error.fmt(f),
            Self::Send(error) => error.fmt(f),
        }
    }
}

/// A member of one group.
pub struct Member {
    dir: PathBuf,
    /// What it is called.
    pub name: String,
    /// Where it finds the relay.
    pub relay_url: String,
    /// What makes others members.
    pub invite: Invite,
}

/// The secret of a group, and where it is.
pub async fn new_group(name: &str, issuer_url: &str, relay_url: &str) -> Invite {
    let info = relay(relay_url).info().await.expect("an info document");
    Invite {
        secret: GroupSecret::generate(&mut UnwrapErr(SysRng)),
        name: name.to_owned(),
        statement: newest_statement(&info).hash,
        log_key: info.log_key,
        cell_bytes: info.cell_bytes as u16,
        issuer: issuer_url.parse().expect("a URL"),
        relays: vec![relay_url.parse().expect("a URL")],
    }
}

/// A relay as a client sees it.
pub fn relay(url: &str) -> RelayClient {
    RelayClient::new(&Transport::default(), url.parse().expect("a URL"))
}

/// The newest statement of keys in an info document.
pub fn newest_statement(info: &RelayInfo) -> Commitment {
    let chain = Chain::open(&info.statements, &info.log_key).expect("a chain");
    chain.newest().commitment()
}

impl Member {
    /// A new member with a wallet in this folder, who finds the relay at this address.
    pub async fn join(world: &Path, name: &str, invite: &Invite, relay_url: &str) -> Self {
        let mut invite = invite.clone();
        invite.relays = vec![relay_url.parse().expect("a URL")];
        let author = AuthorKey::generate(&mut UnwrapErr(SysRng));
        let dir = world.join(format!("{}-{name}", invite.name));
        let member = Self { dir, name: name.to_owned(), relay_url: relay_url.to_owned(), invite };
        let wallet = member.wallet().await;
        let new = NewGroup {
            invite: &member.invite,
            author: &author,
            own_name: name,
            transport: &Transport::default(),
        };
        assert!(wallet.add_group(&new).await.expect("a wallet"));
        wallet.close().await;
        member
    }

    /// Its wallet.
    pub async fn wallet(&self) -> Wallet {
        Wallet::open(&self.dir).await.expect("a wallet")
    }

    /// Its wallet's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    async fn group(&self, wallet: &Wallet) -> Group {
        wallet.group(&self.invite.name).await.expect("a wallet").expect("its group")
    }

    /// Buys tokens.
    pub async fn buy(&self, voucher: &str, count: u64, now: u64) {
        let issuer = IssuerClient::new(&Transport::default(), self.invite.issuer.clone());
        let (wallet, _) = (self.wallet().await, now);
        let session = Session { wallet: &wallet, clock: &clock, tell: &|_| {} };
        let met = meet(&session, &relay(&self.relay_url), None).await.expect("good keys");
        let agreed = agree(&session, &issuer, met).await.expect("the same keys");
        let bought =
            request(&session, &issuer, &agreed, Pays::Voucher(voucher), count, |_| {}).await;
        bought.expect("tokens");
        wallet.close().await;
    }

    /// The relay, as soon as it answers.
    async fn meet(&self, wallet: &Wallet) -> Result<(RelayClient, Met), TrustError> {
        let session = Session { wallet, clock: &clock, tell: &|_| {} };
        for _ in 0..600 {
            let relay = relay(&self.relay_url);
            match meet(&session, &relay, None).await {
                Ok(met) => return Ok((relay, met)),
                Err(TrustError::Http(error)) if error.is_transient() => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{} does not answer", self.relay_url);
    }

    /// Says something.
    pub async fn say(&self, text: &str, now: u64) -> Result<usize, SayError> {
        let wallet = self.wallet().await;
        let group = self.group(&wallet).await;
        let (relay, met) = self.meet(&wallet).await?;
        let clock = move || Duration::from_secs(now);
        let session = Session { wallet: &wallet, clock: &clock, tell: &|_| {} };
        let body = text.as_bytes().to_vec();
        let composed = compose(&session, &group, &met, body).await?;
        queue(&wallet, &group, &composed).await?;
        let sent = send_waiting(&session, &relay, &met, &group).await;
        wallet.close().await;
        Ok(sent?)
    }

    /// Sends what waits.
    pub async fn resume(&self, now: u64) -> Result<usize, SayError> {
        let wallet = self.wallet().await;
        let group = self.group(&wallet).await;
        let (relay, met) = self.meet(&wallet).await?;
        let clock = move || Duration::from_secs(now);
        let session = Session { wallet: &wallet, clock: &clock, tell: &|_| {} };
        let sent = send_waiting(&session, &relay, &met, &group).await;
        wallet.close().await;
        Ok(sent?)
    }

    /// Reads what is new.
    pub async fn sync(&self, now: u64) -> Result<Synced, SyncError> {
        let relay = relay(&self.relay_url);
        let (source, key) = (Source::Relay(&relay), &self.invite.log_key);
        let wallet = self.wallet().await;
        let synced = sync(&wallet, &source, key, Options::default(), now).await;
        wallet.close().await;
        synced
    }

    /// What it has read and said, in order.
    pub async fn messages(&self) -> Vec<StoredMessage> {
        let wallet = self.wallet().await;
        let messages = wallet.messages(&self.group(&wallet).await).await.expect("a wallet");
        wallet.close().await;
        let mut messages = messages;
        messages.sort_by_key(|message| (message.time, message.counter));
        messages
    }

    /// The texts, sorted.
    pub async fn texts(&self) -> Vec<String> {
        let text = |message: StoredMessage| String::from_utf8(message.body).expect("text");
        let mut texts: Vec<String> = self.messages().await.into_iter().map(text).collect();
        texts.sort();
        texts
    }

    /// What is missing.
    pub async fn health(&self) -> GroupHealth {
        let wallet = self.wallet().await;
        let health = wallet.health(&self.group(&wallet).await).await.expect("a wallet");
        wallet.close().await;
        health
    }

    /// What the relay did wrong.
    pub async fn faults(&self) -> Vec<FaultFound> {
        let wallet = self.wallet().await;
        let faults = wallet.faults(&self.invite.log_key).await.expect("a wallet");
        wallet.close().await;
        faults
    }
}
