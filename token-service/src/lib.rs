//! The issuer, in the order in which a token request passes through it.
//!
//! | step | module |
//! |---|---|
//! | listen, drain, stop | [`listen`] |
//! | routes, and errors as problem documents | [`http`] |
//! | who may have tokens | [`voucher`] |
//! | the keys of the epochs | [`keyring`] |
//! | decode, charge, evaluate: each in batches, off the threads that serve connections | [`pipeline`] |
//! | who is admitted, and whose turn it is | `door`, `fair_queue` |
//! | a request of either form | [`asked`] |
//! | charge vouchers, once for each request | [`store`] |
//! | the folder and its files, the database | [`config`], [`data_dir`], [`database`] |
//! | commands | [`cli`] |

pub mod asked;
pub mod cli;
pub mod config;
pub mod data_dir;
pub mod database;
mod door;
mod fair_queue;
pub mod http;
pub mod keyring;
pub mod listen;
pub mod pipeline;
pub mod store;
pub mod voucher;

use std::future::Future;
use std::sync::Arc;

use tocyn_protocol::pairing::Pairing;
use tokio::net::TcpListener;
use tokio::sync::watch;

use config::Config;
use keyring::Keyring;
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
    let keyring = Keyring::new(pairing);
    let (stop, leaving) = watch::channel(false);
    let state = http::AppState::new(config, keyring, store.clone(), clock.clone(), leaving);
    let pruning = tokio::spawn(http::prune_forever(state.clone()));
    let shutdown = async {
        shutdown.await;
        stop.send_replace(true);
        tokio::time::sleep(config.limits.leave_time).await;
    };
    listen::serve(listener, http::router(state), &config.limits, shutdown).await;
    pruning.abort();
    store.close().await;
}
