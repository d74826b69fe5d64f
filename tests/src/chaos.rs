//! A bad network: a proxy that passes bytes on, or late, or not at all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// As it should be.
    Fair,
    /// Every piece comes so much later.
    Delayed(Duration),
    /// Nothing is passed on, and nobody is told.
    Frozen,
    /// Connections are closed, and new ones too.
    Cut,
}

/// A running proxy. Dropping it ends it, and its connections.
pub struct Chaos {
    address: String,
    weather: Arc<watch::Sender<Weather>>,
    task: AbortHandle,
}

impl Chaos {
    /// A proxy to `ADDR:PORT`, which need not be there yet.
    pub async fn new(upstream: &str) -> Self {
        let upstream: SocketAddr = upstream.parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let weather = Arc::new(watch::channel(Weather::Fair).0);
        let seen = weather.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(pass(client, upstream, seen.subscribe()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, weather, task: task.abort_handle() }
    }

    /// `ADDR:PORT` of the proxy.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on it is like this.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(client: TcpStream, upstream: SocketAddr, mut weather: watch::Receiver<Weather>) {
    if *weather.borrow() == Weather::Cut {
        return;
    }
    let Ok(service) = TcpStream::connect(upstream).await else { return };
    let _ = (client.set_nodelay(true), service.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_service, to_service) = service.into_split();
    tokio::select! {
        () = copy(from_client, to_service, weather.clone()) => {}
        () = copy(from_service, to_client, weather.clone()) => {}
        _ = weather.wait_for(|now| *now == Weather::Cut) => {}
    }
}

/// Copies until either side is gone.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut weather: watch::Receiver<Weather>,
) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(n @ 1..) = from.read(&mut bytes).await {
        if weather.wait_for(|now| *now != Weather::Frozen).await.is_err() {
            return;
        }
        let now = *weather.borrow();
        if let Weather::Delayed(time) = now {
            tokio::time::sleep(time).await;
        }
        if to.write_all(&bytes[..n]).await.is_err() {
            return;
        }
    }
}
