//! The relay, in the order in which a post passes through it.
//!
//! | step | module |
//! |---|---|
//! | listen, drain, stop | [`listen`] |
//! | routes, and errors as problem documents | [`http`] |
//! | decode, redeem, spend and append, receipt: the story on one screen | [`relay`] |
//! | the keys of the live epochs | [`epochs`] |
//! | batches on their way to the disk | [`pipeline`] |
//! | spent tokens and messages, in one transaction | [`store`] |
//! | the tree over the messages, signed | [`log`] |
//! | full bundles go into files, and old ones go | [`seal`] |
//! | messages, from the database and from files | [`messages`], [`bundles`] |
//! | who follows is woken | [`head`] |
//! | old messages and closed epochs go | [`retention`] |
//! | the folder and its files, the database | [`config`], [`data_dir`], [`database`] |
//! | commands | [`cli`] |

pub mod bundles;
pub mod cli;
pub mod config;
pub mod data_dir;
pub mod database;
pub mod epochs;
pub mod head;
pub mod http;
pub mod listen;
pub mod log;
pub mod messages;
pub mod pipeline;
pub mod relay;
pub mod retention;
pub mod seal;
pub mod store;

use std::future::Future;
use std::sync::Arc;

use tocyn_protocol::pairing::Pairing;
use tokio::net::TcpListener;
use tokio::sync::watch;

use config::Config;
use messages::Messages;

/// Where the time comes from: unix seconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The operating system's clock.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |age| age.as_secs())
    })
}

/// How far a service is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopping {
    /// It serves.
    No,
    /// It serves, and asks to be sent no more requests: `/readyz` is false.
    Leaving,
    /// It answers what is in flight. Readers that follow get the end of their stream, which
    /// would hold the drain up.
    Draining,
}

/// Serves until `shutdown` is ready, then answers what is in flight and returns.
pub async fn run(
    config: &Config,
    pairing: Pairing,
    messages: Messages,
    log: log::Log,
    listener: TcpListener,
    clock: Clock,
    shutdown: impl Future<Output = ()>,
) {
    let store = messages.store().clone();
    let relay = Arc::new(relay::Relay::new(config, pairing, messages, log, clock));
    let retention = tokio::spawn(retention::run_forever(relay.clone()));
    let putting_away = tokio::spawn(put_away_forever(relay.clone()));
    let sealing = tokio::spawn(seal::seal_forever(relay.messages.clone()));
    let removing = tokio::spawn(seal::remove_forever(relay.messages.clone()));
    let (working, head) = (store.clone(), relay.head.clone());
    let work = tokio::spawn(async move { working.work_forever(head).await });
    let (stop, stopping) = watch::channel(Stopping::No);
    let router = http::router(http::AppState::new(config, relay, stopping));
    let shutdown = async {
        shutdown.await;
        stop.send_replace(Stopping::Leaving);
        tokio::time::sleep(config.limits.leave_time).await;
        stop.send_replace(Stopping::Draining);
    };
    listen::serve(listener, router, &config.limits, shutdown).await;
    for task in [retention, work, putting_away, sealing, removing] {
        task.abort();
    }
    store.close().await;
}

/// Every second, tiles that are full leave memory. Not with the bundles: a folder may hang.
async fn put_away_forever(relay: Arc<relay::Relay>) {
    loop {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        if let Err(error) = relay.log.put_away().await {
            tracing::warn!(%error, "cannot put tiles away; it will be tried again");
        }
    }
}
