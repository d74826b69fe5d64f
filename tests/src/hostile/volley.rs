//! What a hostile client sends at once, and what is answered.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::PATIENCE;

/// How often each status was answered; 0 stands for connections that were closed without one.
#[derive(Clone, Debug, Default)]
pub struct Answers(pub BTreeMap<u16, usize>);

impl Answers {
    /// Adds the statuses of all answers in these bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        let statuses = statuses(bytes);
        let none = statuses.is_empty().then_some(0);
        statuses.into_iter().chain(none).for_each(|status| *self.0.entry(status).or_default() += 1);
    }

    /// All of them are the client's fault, or say that there is no room.
    ///
    /// # Panics
    /// If it is not so.
    pub fn are_decent(&self, name: &str) {
        println!("{name}: {:?}", self.0);
        let indecent = |status: &&u16| **status >= 500 && ![503, 507].contains(*status);
        assert_eq!(self.0.keys().find(indecent), None, "{name}: {:?}", self.0);
    }
}

/// The statuses of all answers in these bytes.
fn statuses(bytes: &[u8]) -> Vec<u16> {
    const START: &[u8] = b"HTTP/1.1 ";
    let starts = bytes.windows(START.len() + 3).filter(|window| window.starts_with(START));
    let text = starts.filter_map(|window| std::str::from_utf8(&window[START.len()..]).ok());
    text.filter_map(|status| status.parse().ok()).collect()
}

/// What a hostile client sends at once.
#[derive(Clone, Debug, Default)]
pub struct Volley {
    /// The beginning.
    pub opening: Vec<u8>,
    /// What it goes on with.
    pub repeated: Vec<u8>,
    /// How often.
    pub times: usize,
    /// Whether it says that there is no more to come.
    pub ends: bool,
}

impl Volley {
    /// Sends it, and reads until the service closes; gives what came back, and how many bytes were
    /// taken.
    ///
    /// # Panics
    /// If the service does not close.
    pub async fn fire(&self, address: &str) -> (Vec<u8>, usize) {
        let stream = TcpStream::connect(address).await.expect("the service listens");
        let (mut from, mut to) = stream.into_split();
        let write = async {
            let mut written = 0;
            let all = std::iter::once(&self.opening);
            for piece in all.chain(std::iter::repeat_n(&self.repeated, self.times)) {
                if to.write_all(piece).await.is_err() {
                    break; // A service that refuses early does not read all.
                }
                written += piece.len();
            }
            if self.ends {
                let _ = to.shutdown().await;
            }
            written
        };
        let read = async {
            let mut answer = Vec::new();
            let _ = from.read_to_end(&mut answer).await; // It may be reset for the same reason.
            answer
        };
        let both = tokio::time::timeout(PATIENCE, async { tokio::join!(write, read) });
        let (written, answer) = both.await.unwrap_or_else(|_| {
            let start = &self.opening[..self.opening.len().min(200)];
            panic!("never closed: {}", String::from_utf8_lossy(start))
        });
        (answer, written)
    }
}
