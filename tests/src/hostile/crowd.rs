//! Many connections at once, which send nothing or hardly anything.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Answers, DRIP, PATIENCE};

/// Connections that are being made at once: fewer than a service lets wait in its backlog.
const CONNECTING: usize = 512;
/// When a connection that the service closed is made anew.
const PAUSE: Duration = Duration::from_secs(20);

/// Many connections that are kept open as long as the service lets them. Dropping it closes them.
pub struct Crowd {
    seen: Arc<Seen>,
    _members: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    /// Members that were ever connected.
    connected: AtomicUsize,
    /// Connections that the service ended.
    ended: AtomicUsize,
    answers: Mutex<Answers>,
}

impl Crowd {
    /// So many of them, each of which begins with `opening`, and then sends one byte of it again and
    /// again, if it `drips`. Waits until all were connected.
    ///
    /// # Panics
    /// If the service lets not all of them connect.
    pub async fn gather(address: &str, size: usize, opening: Vec<u8>, drips: bool) -> Self {
        let address: SocketAddr = address.parse().expect("an address");
        let (seen, opening) = (Arc::new(Seen::default()), Arc::new(opening));
        let turns = Arc::new(Semaphore::new(CONNECTING));
        let mut members = JoinSet::new();
        for number in 0..size {
            let (seen, opening, turns) = (seen.clone(), opening.clone(), turns.clone());
            members.spawn(async move {
                let mut first = true;
                loop {
                    let turn = turns.acquire().await.expect("never closed");
                    let connected = connect(number, address).await;
                    drop(turn);
                    let Ok(stream) = connected else {
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    };
                    if std::mem::take(&mut first) {
                        seen.connected.fetch_add(1, Ordering::Relaxed);
                    }
                    let answer = linger(stream, &opening, drips).await;
                    seen.answers.lock().expect("no panic").add(&answer);
                    seen.ended.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        let all = async {
            while seen.connected.load(Ordering::Relaxed) < size {
                tokio::time::sleep(DRIP).await;
            }
        };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            let connected = seen.connected.load(Ordering::Relaxed);
            panic!("of {size} connections the service has taken {connected} only");
        }
        Self { seen, _members: members }
    }

    /// Waits until the service has ended so many connections.
    ///
    /// # Panics
    /// If it does not.
    pub async fn loses(&self, number: usize) {
        let lost = async {
            while self.seen.ended.load(Ordering::Relaxed) < number {
                tokio::time::sleep(DRIP).await;
            }
        };
        tokio::time::timeout(PATIENCE, lost).await.expect("the service cuts nobody off");
    }

    /// What the service said to those whose connections it ended.
    pub fn answers(&self) -> Answers {
        self.seen.answers.lock().expect("no panic").clone()
    }
}

/// From one of eight addresses, each of which has ports of its own.
async fn connect(number: usize, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 2 + (number % 8) as u8], 0)))?;
    socket.connect(address).await
}

/// Stays until the service ends the connection; gives what it said.
async fn linger(stream: TcpStream, opening: &[u8], drips: bool) -> Vec<u8> {
    let (mut from, mut to) = stream.into_split();
    let mut answer = Vec::new();
    let send = async {
        let mut sent = to.write_all(opening).await;
        while drips && sent.is_ok() {
            tokio::time::sleep(DRIP).await;
            sent = to.write_all(b"a").await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = send => {}
        _ = from.read_to_end(&mut answer) => {}
    }
    answer
}
