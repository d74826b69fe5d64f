//! A connection that speaks just enough HTTP/1.1, and cheaply, because the load generator shares
//! the machine with what it measures: requests are written as the bytes they are, and answers
//! are parsed where they arrive.

use std::io::{Error, ErrorKind, IoSlice, Result};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::head::{Body, no_http, parse_head};

/// Room for the head of an answer and a small body.
const BUFFER_BYTES: usize = 16 * 1024;

/// A connection to `ADDR:PORT`, made anew when the other side closes it between two requests.
pub(crate) struct Connection {
    address: String,
    stream: TcpStream,
    buffer: Box<[u8]>,
    /// What was received and not yet taken.
    start: usize,
    end: usize,
    body: Body,
    /// Whether the other side closes it after this answer.
    closing: bool,
    /// Whether an answer has come over this stream.
    answered: bool,
    reconnects: u64,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Result<Self> {
        Self::with_buffer(address, BUFFER_BYTES).await
    }

    /// With room for so many bytes of a body at once.
    pub(crate) async fn with_buffer(address: &str, bytes: usize) -> Result<Self> {
        Ok(Self {
            address: address.to_owned(),
            stream: connect(address).await?,
            buffer: vec![0; bytes].into(),
            start: 0,
            end: 0,
            body: Body::End,
            closing: false,
            answered: false,
            reconnects: 0,
        })
    }

    /// How often it was made anew.
    pub(crate) fn reconnects(&self) -> u64 {
        self.reconnects
    }

    /// Sends a request, in two parts, and gives the status of the whole answer; its body is
    /// added to `body`.
    pub(crate) async fn exchange(&mut self, parts: [&[u8]; 2], body: &mut Vec<u8>) -> Result<u16> {
        if self.closing {
            self.reconnect().await?;
        }
        match self.attempt(parts, body).await {
            // A server may close what was idle for a moment; it has not taken the request then.
            Err(error) if self.answered && is_closed(&error) => {
                self.reconnect().await?;
                self.attempt(parts, body).await
            }
            result => result,
        }
    }

    async fn attempt(&mut self, parts: [&[u8]; 2], body: &mut Vec<u8>) -> Result<u16> {
        self.send(parts).await?;
        let status = self.head().await?;
        while let Some(piece) = self.piece().await? {
            body.extend_from_slice(piece);
        }
        self.answered = true;
        Ok(status)
    }

    async fn reconnect(&mut self) -> Result<()> {
        self.stream = connect(&self.address).await?;
        (self.start, self.end, self.body) = (0, 0, Body::End);
        (self.closing, self.answered) = (false, false);
        self.reconnects += 1;
        Ok(())
    }

    /// Sends a request, in two parts.
    pub(crate) async fn send(&mut self, parts: [&[u8]; 2]) -> Result<()> {
        let mut slices = parts.map(IoSlice::new);
        let mut left = &mut slices[..];
        IoSlice::advance_slices(&mut left, 0); // passes over empty ones
        while !left.is_empty() {
            let written = self.stream.write_vectored(left).await?;
            if written == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut left, written);
        }
        Ok(())
    }

    /// Receives the head of an answer; gives the status.
    pub(crate) async fn head(&mut self) -> Result<u16> {
        loop {
            if let Some(head) = parse_head(&self.buffer[self.start..self.end])? {
                self.start += head.bytes;
                if head.status < 200 {
                    continue; // the answer proper comes after it
                }
                (self.body, self.closing) = (head.body, head.closing);
                return Ok(head.status);
            }
            self.fill().await?;
        }
    }

    /// The next piece of the body; None at its end.
    pub(crate) async fn piece(&mut self) -> Result<Option<&[u8]>> {
        loop {
            match self.body {
                Body::End | Body::Length(0) => {
                    self.body = Body::End;
                    return Ok(None);
                }
                Body::Length(left) | Body::Chunk(left) if self.start < self.end => {
                    let bytes = left.min((self.end - self.start) as u64);
                    self.body = match (self.body, left - bytes) {
                        (Body::Length(_), rest) => Body::Length(rest),
                        (_, 0) => Body::ChunkEnd,
                        (_, rest) => Body::Chunk(rest),
                    };
                    let from = self.start;
                    self.start += bytes as usize;
                    return Ok(Some(&self.buffer[from..self.start]));
                }
                Body::Length(_) | Body::Chunk(_) => self.fill().await?,
                Body::ChunkSize => {
                    match httparse::parse_chunk_size(&self.buffer[self.start..self.end]) {
                        Ok(httparse::Status::Complete((bytes, size))) => {
                            self.start += bytes;
                            self.body = if size == 0 { Body::Trailer } else { Body::Chunk(size) };
                        }
                        Ok(httparse::Status::Partial) => self.fill().await?,
                        Err(_) => return Err(no_http("a chunk without a size")),
                    }
                }
                Body::ChunkEnd => {
                    if !self.line().await? {
                        return Err(no_http("a chunk that is longer than its size"));
                    }
                    self.body = Body::ChunkSize;
                }
                Body::Trailer => {
                    if self.line().await? {
                        self.body = Body::End;
                    }
                }
            }
        }
    }

    /// Passes over one line; tells whether it was empty.
    async fn line(&mut self) -> Result<bool> {
        loop {
            let received = &self.buffer[self.start..self.end];
            if let Some(end) = received.iter().position(|&byte| byte == b'\n') {
                let empty = matches!(&received[..end], b"" | b"\r");
                self.start += end + 1;
                return Ok(empty);
            }
            self.fill().await?;
        }
    }

    /// Receives more.
    async fn fill(&mut self) -> Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            if self.start == 0 {
                return Err(no_http("a line without an end"));
            }
            self.buffer.copy_within(self.start.., 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        match self.stream.read(&mut self.buffer[self.end..]).await? {
            0 if self.start == self.end => Err(ErrorKind::ConnectionAborted.into()),
            0 => Err(Error::new(ErrorKind::UnexpectedEof, "the answer broke off")),
            bytes => {
                self.end += bytes;
                Ok(())
            }
        }
    }
}

async fn connect(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn is_closed(error: &Error) -> bool {
    let kinds = [ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
    kinds.contains(&error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Serves these bytes, a few at a time, to each connection once it has sent something.
    async fn server(answers: &'static [&'static str], step: usize) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut request = [0; 64];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                for part in answer.as_bytes().chunks(step) {
                    stream.write_all(part).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn answers_are_read_however_they_are_cut() {
        const SIZED: &str = "HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello";
        const CHUNKED: &str = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\
             transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
        for step in [1, 7, 1000] {
            for (answer, status) in [(&[SIZED], 201), (&[CHUNKED], 200)] {
                let mut connection = Connection::open(&server(answer, step).await).await.unwrap();
                let mut body = Vec::new();
                let got = connection.exchange([b"GET", b" /"], &mut body).await.unwrap();
                assert_eq!((got, &body[..]), (status, &b"hello"[..]), "{step}");
            }
        }
    }

    #[tokio::test]
    async fn what_was_closed_in_between_is_opened_again() {
        const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let mut connection = Connection::open(&server(&[OK, OK], 1000).await).await.unwrap();
        for _ in 0..2 {
            assert_eq!(connection.exchange([b"", b"GET"], &mut Vec::new()).await.unwrap(), 200);
        }
        assert_eq!(connection.reconnects(), 1);
    }

    #[tokio::test]
    async fn nonsense_is_refused() {
        for answer in [
            &["SSH-2.0-OpenSSH\r\n\r\n"],
            &["HTTP/1.1 200 OK\r\n\r\n"],
            &["HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"],
            &["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"],
            &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n"],
            &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n"],
        ] {
            let mut connection = Connection::open(&server(answer, 1000).await).await.unwrap();
            assert!(connection.exchange([b"GET", b""], &mut Vec::new()).await.is_err());
        }
    }
}
