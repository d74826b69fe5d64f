//! The relay, in the order in which a post passes through it.
//!
//! | step | module |
//! |---|---|
//! | listeners, connections, metrics and status page: what every service has | `tocyn_service` |
//! | routes, and errors as problem documents | [`http`] |
//! | decode, redeem, spend and append, receipt: the story on one screen | [`relay`] |
//! | the keys of the live epochs | [`epochs`] |
//! | batches on their way to the disk | [`pipeline`] |
//! | spent tokens and messages, in one transaction | [`store`] |
//! | what the relay states of its keys and addresses, signed | [`statements`] |
//! | the tree over the messages, signed | [`log`] |
//! | full bundles go into files, and old ones go | [`seal`] |
//! | messages, from the database and from files | [`messages`], [`bundles`] |
//! | who reads, in how much memory | `readers`, `followers` |
//! | who follows is woken | [`head`] |
//! | old messages and closed epochs go | [`retention`] |
//! | settings, the folder and its files | [`config`], [`data_dir`] |
//! | which pairings a restored folder serves | [`restored`] |
//! | what was signed, should the database go back | [`signed`] |
//! | a second relay with the same pairing is noticed | [`alone`] |
//! | what the operator sees | [`metrics`], [`observed`] |
//! | commands | [`cli`] |

pub mod alone;
pub mod bundles;
pub mod cli;
pub mod config;
pub mod data_dir;
pub mod epochs;
mod followers;
pub mod head;
pub mod http;
pub mod log;
pub mod messages;
pub mod metrics;
pub mod observed;
pub mod pipeline;
mod readers;
pub mod relay;
pub mod restored;
pub mod retention;
pub mod seal;
pub mod signed;
pub mod statements;
pub mod store;

use std::future::Future;
use std::sync::Arc;

use tocyn_protocol::pairing::Pairing;
use tocyn_service::admin::{self, Admin};
use tocyn_service::listen::Listeners;
use tocyn_service::serve::Server;
use tocyn_service::supervisor;
use tocyn_service::writing::{WriterEnded, while_it_writes};
pub use tocyn_service::{Clock, system_clock};
use tokio::sync::watch;

use config::Config;
use messages::Messages;
use observed::ObservedRelay;

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

/// Serves until `shutdown` is ready, then answers what is in flight and returns. Fails at once if
/// the writer ends: this process can never store a post again, and another one can.
pub async fn run(
    config: &Config,
    pairing: Pairing,
    messages: Messages,
    log: log::Log,
    listeners: Listeners,
    clock: Clock,
    shutdown: impl Future<Output = ()>,
) -> Result<(), WriterEnded> {
    let store = messages.store().clone();
    let relay = Arc::new(relay::Relay::new(config, pairing, messages, log, clock));
    let (stop, stopping) = watch::channel(Stopping::No);
    let state = http::AppState::new(config, relay.clone(), stopping);
    let server = Server::new(config.bounds(), relay.metrics.refusals.clone());
    let observed = ObservedRelay::new(relay.clone(), server.clone(), state.followers());
    let admin = Admin::new(observed);
    let (counting, ready) = (admin.clone(), state.clone());
    let (working, head) = (store.clone(), relay.head.clone());
    let tasks = [
        tokio::spawn(retention::run_forever(relay.clone())),
        tokio::spawn(put_away_forever(relay.clone())),
        tokio::spawn(seal::seal_forever(relay.messages.clone())),
        tokio::spawn(seal::remove_forever(relay.messages.clone())),
        tokio::spawn(async move { working.work_forever(head).await }),
        tokio::spawn(admin.clone().sample_forever()),
        tokio::spawn(async move { counting.observed().count_forever().await }),
        tokio::spawn(async move { supervisor::watch_forever(|| ready.lives()).await }),
        tokio::spawn(serve_operator(config, admin, listeners.admin)),
    ];
    supervisor::ready();
    let shutdown = async {
        shutdown.await;
        supervisor::stopping();
        stop.send_replace(Stopping::Leaving);
        tokio::time::sleep(config.limits.leave_time).await;
        stop.send_replace(Stopping::Draining);
    };
    let writer = relay.ended();
    let ended =
        while_it_writes(server.serve(listeners.public, http::router(state), shutdown), writer);
    let ended = ended.await;
    for task in tasks {
        task.abort();
    }
    match ended {
        Ok(()) => store.close().await,
        Err(_) => tracing::error!("the writer has ended: the relay ends, to be started again"),
    }
    ended
}

/// Until it is aborted: what the operator sees is there to the end.
fn serve_operator(
    config: &Config,
    admin: Arc<Admin<ObservedRelay>>,
    listeners: Vec<tocyn_service::listen::Listener>,
) -> impl Future<Output = ()> + use<> {
    let server = Server::new(config.admin_bounds(), Default::default());
    let router = admin::routes(admin.clone()).merge(admin::plain_status(admin));
    admin::serve(server, listeners, router, config.admin.hosts.clone())
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
