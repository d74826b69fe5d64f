//! Reading. The relay numbers messages without gaps; a jump means that it withholds some, and
//! is an error.

use std::time::Duration;

use reqwest::{Response, Url};
use tocyn_protocol::relay::{CellDecoder, RelayInfo};

use crate::relay::RelayClient;
use crate::transport::{HttpError, unreachable};

/// The first wait before a reader that follows connects again; each next one is twice as long.
const RECONNECT: Duration = Duration::from_secs(1);
/// How often in a row it tries: for about a minute.
const ATTEMPTS: u32 = 6;

/// Why reading ended early. What was read before it is good.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No answer, or a refusal.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A sequence is missing or comes twice.
    #[error(
        "the relay sent message {got} where {expected} was due: it withholds or repeats messages; tell the operator"
    )]
    Gap {
        /// The sequence that was due.
        expected: u64,
        /// The one that came.
        got: u64,
    },
    /// The stream ended in the middle of a message.
    #[error(
        "the relay's answer broke off in the middle of a message; read on with --after {after}"
    )]
    BrokenOff {
        /// The last whole message.
        after: u64,
    },
}

/// What to read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Range {
    /// Only messages after this sequence; all that are kept if None.
    pub after: Option<u64>,
    /// At most so many.
    pub limit: Option<u64>,
    /// Wait for new ones.
    pub follow: bool,
}

/// Messages in the order of the log, in bounded memory.
pub struct Reader<'a> {
    relay: &'a RelayClient,
    range: Range,
    decoder: CellDecoder,
    cell_bytes: usize,
    ready: std::vec::IntoIter<(u64, Vec<u8>)>,
    stream: Option<Response>,
    failures: u32,
}

impl<'a> Reader<'a> {
    /// Asks for nothing yet.
    pub fn new(relay: &'a RelayClient, info: &RelayInfo, range: Range) -> Self {
        let cell_bytes = info.cell_bytes as usize;
        let decoder = CellDecoder::new(cell_bytes);
        let ready = Vec::new().into_iter();
        Self { relay, range, decoder, cell_bytes, ready, stream: None, failures: 0 }
    }

    /// The next message with its sequence; None at the end. With `follow` there is no end
    /// unless a limit sets one, and a connection that breaks is made anew.
    pub async fn next(&mut self) -> Result<Option<(u64, Vec<u8>)>, ReadError> {
        loop {
            if self.range.limit == Some(0) {
                return Ok(None);
            }
            if let Some((seq, cell)) = self.ready.next() {
                return self.take(seq, cell).map(Some);
            }
            match self.receive().await {
                Ok(true) => {}
                Ok(false) if !self.range.follow => return Ok(None),
                Err(error) if !self.range.follow => return Err(error),
                Err(ReadError::Http(error)) if !error.is_transient() => return Err(error.into()),
                Err(error) if self.failures == ATTEMPTS => return Err(error),
                Ok(false) | Err(_) => {
                    tokio::time::sleep(RECONNECT * 2u32.pow(self.failures)).await;
                    self.failures += 1;
                }
            }
        }
    }

    fn take(&mut self, seq: u64, cell: Vec<u8>) -> Result<(u64, Vec<u8>), ReadError> {
        // The first message tells where the log starts if no place was asked for.
        let expected = self.range.after.map_or(seq, |after| after.saturating_add(1));
        if seq != expected {
            return Err(ReadError::Gap { expected, got: seq });
        }
        self.range.after = Some(seq);
        self.range.limit = self.range.limit.map(|left| left.saturating_sub(1));
        Ok((seq, cell))
    }

    /// Receives more bytes; false at the end of the stream.
    async fn receive(&mut self) -> Result<bool, ReadError> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let Range { after, limit, follow } = self.range;
                self.decoder = CellDecoder::new(self.cell_bytes);
                let stream = self.relay.read(after, limit, follow).await?;
                self.failures = 0;
                self.stream.insert(stream)
            }
        };
        let url: Url = stream.url().clone();
        let chunk = stream.chunk().await;
        if !matches!(chunk, Ok(Some(_))) {
            self.stream = None;
        }
        match chunk.map_err(|error| unreachable(&url, &error))? {
            Some(bytes) => {
                self.ready = self.decoder.push(&bytes).into_iter();
                Ok(true)
            }
            None if self.decoder.is_empty() => Ok(false),
            None => Err(ReadError::BrokenOff { after: self.range.after.unwrap_or(0) }),
        }
    }
}
