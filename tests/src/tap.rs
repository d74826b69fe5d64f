//! A proxy between a client and a service that records every byte, and can hold a request or
//! an answer back for ever: that is how a test kills a program at an exact point.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// What to hold back: traffic of requests that start with this text, as `POST /token-request`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Nothing.
    Nothing,
    /// The request never reaches the service.
    Request(&'static str),
    /// The service answers, but the answer never reaches the client.
    Answer(&'static str),
}

struct Shared {
    upstream: SocketAddr,
    hold: Mutex<(usize, Hold)>,
    held: watch::Sender<usize>,
    bytes: Mutex<Vec<u8>>,
}

impl Shared {
    /// What to do with a request that starts with these bytes.
    fn hold_now(&self, bytes: &[u8]) -> Hold {
        let mut hold = self.hold.lock().expect("no panic under the lock");
        match hold.1 {
            Hold::Request(start) | Hold::Answer(start) if bytes.starts_with(start.as_bytes()) => {
                let now = if hold.0 == 0 { hold.1 } else { Hold::Nothing };
                hold.0 = hold.0.saturating_sub(1);
                now
            }
            _ => Hold::Nothing,
        }
    }
}

/// A running proxy. Dropping it ends it.
pub struct Tap {
    url: String,
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl Tap {
    /// A proxy to the service at `ADDR:PORT`.
    pub async fn new(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let shared = Arc::new(Shared {
            upstream: upstream.parse().expect("an address"),
            hold: Mutex::new((0, Hold::Nothing)),
            held: watch::channel(0).0,
            bytes: Mutex::default(),
        });
        let connections = shared.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, connections.clone()));
            }
        });
        Self { url, shared, task: task.abort_handle() }
    }

    /// `http://ADDR:PORT` of the proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on hold this back.
    pub fn hold(&self, hold: Hold) {
        self.hold_after(0, hold);
    }

    /// Hold this back once so many requests of its kind have passed.
    pub fn hold_after(&self, requests: usize, hold: Hold) {
        *self.shared.hold.lock().expect("no panic under the lock") = (requests, hold);
    }

    /// Waits until something is held back.
    pub async fn something_held(&self) {
        self.shared.held.subscribe().wait_for(|held| *held > 0).await.expect("the proxy runs");
        self.shared.held.send_replace(0);
    }

    /// All bytes so far, in both directions.
    pub fn bytes(&self) -> Vec<u8> {
        self.shared.bytes.lock().expect("no panic under the lock").clone()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection. A request is told by its first line, which clients send in one piece.
async fn pass(mut client: TcpStream, shared: Arc<Shared>) {
    let Ok(mut service) = TcpStream::connect(shared.upstream).await else { return };
    let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut answer_is_held = false;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(n @ 1..) = read else { return };
                let bytes = &up[..n];
                match shared.hold_now(bytes) {
                    Hold::Request(_) => {
                        shared.held.send_modify(|held| *held += 1);
                        let _ = client.read(&mut down).await; // until the client is gone
                        return;
                    }
                    Hold::Answer(_) => answer_is_held = true,
                    Hold::Nothing => {}
                }
                shared.bytes.lock().expect("no panic under the lock").extend_from_slice(bytes);
                if service.write_all(bytes).await.is_err() { return }
            }
            read = service.read(&mut down) => {
                let Ok(n @ 1..) = read else { return };
                if answer_is_held {
                    shared.held.send_modify(|held| *held += 1);
                    let _ = client.read(&mut up).await;
                    return;
                }
                shared.bytes.lock().expect("no panic under the lock").extend_from_slice(&down[..n]);
                if client.write_all(&down[..n]).await.is_err() { return }
            }
        }
    }
}
