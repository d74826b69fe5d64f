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
//! | old messages and closed epochs go | [`retention`] |
//! | the folder and its files | [`config`], [`data_dir`] |
//! | commands | [`cli`] |

pub mod cli;
pub mod config;
pub mod data_dir;
pub mod epochs;
pub mod http;
pub mod listen;
pub mod pipeline;
pub mod relay;
pub mod retention;
pub mod store;

use std::future::Future;
use std::sync::Arc;

use tocyn_protocol::pairing::Pairing;
use tokio::net::TcpListener;
use tokio::sync::watch;

use config::Config;
use store::Store;

/// Where the time comes from: unix seconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The operating system's clock.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |age| age.as_secs())
    })
}

/// Serves until `shutdown` is ready, then answers what is in flight and returns.
pub async fn run(
    config: &Config,
    pairing: Pairing,
    store: Store,
    listener: TcpListener,
    clock: Clock,
    shutdown: impl Future<Output = ()>,
) {
    let relay = Arc::new(relay::Relay::new(config, pairing, store.clone(), clock));
    let retention = tokio::spawn(retention::run_forever(relay.clone()));
    let writing = store.clone();
    let checkpoints = tokio::spawn(async move { writing.checkpoint_forever().await });
    // Readers that follow would hold the drain up: they are told first.
    let (stop, stopping) = watch::channel(false);
    let router = http::router(http::AppState::new(config, relay, stopping));
    let shutdown = async {
        shutdown.await;
        let _ = stop.send(true);
    };
    listen::serve(listener, router, &config.limits, shutdown).await;
    retention.abort();
    checkpoints.abort();
    store.close().await;
}
