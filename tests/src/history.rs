//! What clients asked for and were told, while things went wrong; and whether it was true.

mod check;
#[cfg(test)]
mod tests;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::relay::{MessageId, PostReceipt};

pub use check::{Violation, check};

/// A token's 32 random bytes.
pub type Nonce = [u8; 32];

/// A post, and what came of it.
#[derive(Clone, Debug)]
pub struct Post {
    /// The token.
    pub nonce: Nonce,
    /// What it was to pay for. In these runs no message is sent with two tokens.
    pub message: MessageId,
    /// Since the start of the run.
    pub sent: Duration,
    /// Since the start of the run.
    pub answered: Duration,
    /// What came.
    pub outcome: PostOutcome,
    /// What the receipt's proof led to, if there was a receipt; None in it if the proof is wrong.
    pub proven: Option<Option<Checkpoint>>,
}

/// What came of a post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostOutcome {
    /// 201.
    Stored(PostReceipt),
    /// 200.
    StoredBefore(PostReceipt),
    /// 409: the token was spent on another message.
    Spent,
    /// Another refusal, with its problem type.
    Refused(String),
    /// 503, or no answer: nobody knows.
    Unknown,
}

impl PostOutcome {
    /// The receipt, if there is one.
    pub fn receipt(&self) -> Option<PostReceipt> {
        match self {
            Self::Stored(receipt) | Self::StoredBefore(receipt) => Some(*receipt),
            _ => None,
        }
    }
}

/// A request for tokens, and what came of it.
#[derive(Clone, Debug)]
pub struct Issue {
    /// Which voucher.
    pub voucher: usize,
    /// Tells the request's bodies apart.
    pub body: u64,
    /// Tokens asked for.
    pub tokens: u64,
    /// What came.
    pub outcome: IssueOutcome,
}

/// What came of a request for tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssueOutcome {
    /// 200, with genuine tokens.
    Answered,
    /// A refusal, with its problem type.
    Refused(String),
    /// 503, or no answer: nobody knows.
    Unknown,
}

/// A log, or what somebody saw of it: sequences and messages, in the order in which they came.
pub type Log = Vec<(u64, MessageId)>;

/// All that was recorded.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Every post.
    pub posts: Vec<Post>,
    /// Every request for tokens.
    pub issues: Vec<Issue>,
    /// What each follower was sent.
    pub followers: Vec<Log>,
}

/// What there is when all is over.
#[derive(Clone, Debug, Default)]
pub struct FinalState {
    /// The log as each relay gives it.
    pub logs: Vec<Log>,
    /// Of each voucher: tokens granted, tokens left.
    pub vouchers: Vec<(u64, u64)>,
}

/// Where clients record, all at once.
pub struct Recorder {
    start: Instant,
    history: Mutex<History>,
}

impl Recorder {
    /// Nothing has happened yet.
    pub fn new(followers: usize) -> Self {
        let history = History { followers: vec![Vec::new(); followers], ..History::default() };
        Self { start: Instant::now(), history: Mutex::new(history) }
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Adds to the history, or looks at it.
    pub fn with<T>(&self, look: impl FnOnce(&mut History) -> T) -> T {
        look(&mut self.history.lock().expect("no panic under the lock"))
    }
}
