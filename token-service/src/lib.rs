//! The issuer, in the order in which a token request passes through it.
//!
//! | step | module |
//! |---|---|
//! | listeners, connections, metrics and status page: what every service has | `tocyn_service` |
//! | routes, and errors as problem documents | [`http`] |
//! | who may have tokens | [`attester`], [`voucher`] |
//! | the keys of the epochs | [`keyring`] |
//! | decode, charge, evaluate: each in batches, off the threads that serve connections | [`pipeline`] |
//! | who is admitted, and whose turn it is | `door`, `fair_queue` |
//! | a request of either form | [`asked`] |
//! | charge vouchers, once for each request | [`store`] |
//! | secrets that the relay does not have | `secrets` |
//! | settings, the folder and its files | [`config`], [`data_dir`] |
//! | what the operator sees | [`metrics`], [`observed`] |
//! | commands | [`cli`] |

pub mod asked;
pub mod attester;
pub mod cli;
pub mod config;
pub mod data_dir;
mod door;
mod fair_queue;
pub mod http;
pub mod keyring;
pub mod metrics;
pub mod observed;
pub mod pipeline;
mod secrets;
pub mod sheet;
pub mod store;
pub mod voucher;

use std::future::Future;
use std::sync::Arc;

use tocyn_protocol::pairing::Pairing;
use tocyn_service::admin::{self, Admin};
use tocyn_service::listen::{Listener, Listeners};
use tocyn_service::serve::Server;
use tocyn_service::supervisor;
use tocyn_service::writing::{WriterEnded, while_it_writes};
pub use tocyn_service::{Clock, system_clock};
use tokio::sync::watch;

use config::Config;
use http::operator::Credentials;
use keyring::Keyring;
use observed::ObservedIssuer;
use store::Store;

/// Serves until `shutdown` is ready, then answers what is in flight and returns. Fails at once if
/// the writer ends: this process can never charge a request again, and another one can.
pub async fn run(
    config: &Config,
    pairing: Pairing,
    store: Store,
    listeners: Listeners,
    credentials: Credentials,
    clock: Clock,
    shutdown: impl Future<Output = ()>,
) -> Result<(), WriterEnded> {
    let keyring = Keyring::new(pairing);
    let (stop, leaving) = watch::channel(false);
    let state = http::AppState::new(config, keyring, store.clone(), clock.clone(), leaving);
    let server = Server::new(config.bounds(), state.metrics().refusals.clone());
    let admin = Admin::new(ObservedIssuer::new(state.clone(), server.clone()));
    let (ready, working) = (state.clone(), store.clone());
    let tasks = [
        tokio::spawn(http::prune_forever(state.clone())),
        tokio::spawn(http::watch_demand_forever(state.clone())),
        tokio::spawn(async move { working.work_forever().await }),
        tokio::spawn(admin.clone().sample_forever()),
        tokio::spawn(async move { supervisor::watch_forever(|| ready.lives()).await }),
        tokio::spawn(serve_operator(config, admin, state.clone(), credentials, listeners.admin)),
    ];
    supervisor::ready();
    let shutdown = async {
        shutdown.await;
        supervisor::stopping();
        stop.send_replace(true);
        tokio::time::sleep(config.limits.leave_time).await;
    };
    let writer = state.ended();
    let ended =
        while_it_writes(server.serve(listeners.public, http::router(state), shutdown), writer);
    let ended = ended.await;
    for task in tasks {
        task.abort();
    }
    match ended {
        Ok(()) => store.close().await,
        Err(_) => tracing::error!("the writer has ended: the issuer ends, to be started again"),
    }
    ended
}

/// Until it is aborted: what the operator sees is there to the end.
fn serve_operator(
    config: &Config,
    admin: Arc<Admin<ObservedIssuer>>,
    state: http::AppState,
    credentials: Credentials,
    listeners: Vec<Listener>,
) -> impl Future<Output = ()> + use<> {
    let server = Server::new(config.admin_bounds(), Default::default());
    let router =
        admin::routes(admin.clone()).merge(http::operator::routes(admin, state, credentials));
    admin::serve(server, listeners, router, config.admin.hosts.clone())
}
