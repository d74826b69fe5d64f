//! Clients that mean harm, and what must hold while they go on: others are served, memory stays
//! bounded, and nothing panics.

mod crowd;
mod volley;

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tocyn_protocol::issuance::AmortizedBatchTokenResponse;
use tocyn_protocol::relay::CellDecoder;
use tocyn_protocol::token::Token;

use crate::bearer::{batch, bound, cell, http_client, post, send, try_current_key};
use crate::service::Service;
use crate::world::World;

pub use crowd::Crowd;
pub use volley::{Answers, Volley};

/// Nothing takes longer, unless somebody is not served or not cut off.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Files that a test has open beside its hostile connections.
const OTHER_FILES: usize = 500;
/// Between the bytes of a slow sender.
const DRIP: Duration = Duration::from_millis(250);
/// What a process may ever have taken of memory. 1024 connections hold each at most a head of
/// 16 KiB, in a buffer that may be twice as large, a body of 32 KiB and some KiB of state: 96 MiB.
/// The other 64 MiB are for the program, its database and its threads.
const MAX_RESIDENT_BYTES: u64 = 160 << 20;

/// How many hostile connections this process may have open, of those that are `wanted`: raises its
/// limit on open files as far as it may.
pub fn connections(wanted: usize) -> usize {
    let hard = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit { current: hard, maximum: hard };
    setrlimit(Resource::Nofile, raised).expect("the soft limit may be raised to the hard one");
    let most = hard.map_or(wanted, |hard| (hard as usize).saturating_sub(OTHER_FILES));
    if most < wanted {
        println!(
            "WARNING: ONLY {most} OF {wanted} HOSTILE CONNECTIONS: the hard limit on open files \
             is {} (ulimit -Hn)",
            hard.unwrap_or_default()
        );
    }
    wanted.min(most)
}

/// Both services, and a customer's voucher.
pub struct Scene {
    /// The folders.
    pub world: World,
    /// The issuer.
    pub issuer: Service,
    /// The relay.
    pub relay: Service,
    /// With many tokens on it.
    pub voucher: String,
}

impl Scene {
    /// Both services, with such times for heads and bodies.
    pub fn new(timeout: &str) -> Self {
        let world = World::default();
        for data in [world.issuer_data(), world.relay_data()] {
            let config = data.join("config.toml");
            let mut text = std::fs::read_to_string(&config).expect("init wrote it");
            for old in ["header_timeout = \"10s\"", "body_timeout = \"30s\""] {
                assert!(text.contains(old), "{text}");
                let name = old.split(' ').next().expect("a name");
                text = text.replace(old, &format!("{name} = \"{timeout}\""));
            }
            std::fs::write(&config, text).expect("it can be written");
        }
        let (issuer, relay) = (world.start_issuer(), world.start_relay());
        let voucher = world.voucher(100_000);
        Self { world, issuer, relay, voucher }
    }

    /// Both.
    pub fn services(&self) -> [&Service; 2] {
        [&self.issuer, &self.relay]
    }

    /// Sixteen tokens, bought as a stranger does who asks again when it comes to nothing.
    pub async fn tokens(&self) -> Vec<Token> {
        let bought = persist("a customer gets no tokens", async || {
            let http = http_client();
            let key = try_current_key(&http, self.issuer.url()).await?;
            let (request, pending) = batch(&key, 16);
            let body = request.to_bytes();
            let answer = send(&http, self.issuer.url(), &self.voucher, body).await.ok()?;
            let answer = answer.error_for_status().ok()?.bytes().await.ok()?;
            let answer = AmortizedBatchTokenResponse::from_bytes(&answer).expect("a batch");
            Some(pending.finalize(&answer).expect("genuine tokens"))
        });
        bought.await
    }

    /// So many customers buy tokens, post, and read what they posted, one after the other, each
    /// over connections of its own.
    pub async fn serves(&self, customers: usize, name: &str) {
        for customer in 0..customers {
            let token = self.tokens().await.remove(0);
            let cell = cell(&format!("{name}, customer {customer}"));
            let authorization = bound(&token, &cell);
            persist("a customer cannot post", async || {
                let answer = post(&http_client(), self.relay.url(), &authorization, &cell).await;
                answer.ok()?.error_for_status().ok()
            })
            .await;
            persist("a customer cannot read what was posted", async || {
                let url = format!("{}/v1/messages", self.relay.url());
                let answer = http_client().get(url).send().await.ok()?.error_for_status().ok()?;
                let stream = answer.bytes().await.ok()?;
                let read = CellDecoder::new(cell.len()).push(&stream);
                read.iter().any(|(_, one)| *one == cell).then_some(())
            })
            .await;
        }
    }

    /// Both services run, have not panicked, and never took more memory than they may.
    ///
    /// # Panics
    /// If it is not so.
    pub fn is_unharmed(&mut self, name: &str) {
        for (who, service) in [("issuer", &mut self.issuer), ("relay", &mut self.relay)] {
            assert!(service.is_alive(), "{name}: the {who} has ended");
            let log = service.log();
            let panic = log.lines().find(|line| line.contains("panic"));
            assert_eq!(panic, None, "{name}: the {who} panicked");
            let peak = peak_bytes(service.id());
            println!("{name}: the {who} took at most {} KiB of memory", peak >> 10);
            assert!(peak <= MAX_RESIDENT_BYTES, "{name}: the {who} took {peak} bytes of memory");
        }
    }
}

/// Asks until there is an answer, as clients do.
async fn persist<T>(failure: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let asking = async {
        loop {
            match tokio::time::timeout(PATIENCE / 4, ask()).await {
                Ok(Some(answer)) => return answer,
                _ => tokio::time::sleep(DRIP).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{failure}"))
}

/// The most memory that a process ever had, in bytes: `VmHWM`.
fn peak_bytes(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says it");
    let kib = line.trim().strip_suffix(" kB").expect("in KiB");
    kib.parse::<u64>().expect("a number") << 10
}
