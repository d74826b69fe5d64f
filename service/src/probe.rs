//! One GET request, as `doctor` asks a service how it is: plain HTTP, over TCP or a unix socket.

use std::path::Path;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, StatusCode, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest body that is read.
const MAX_BODY_BYTES: usize = 1 << 20;

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// What the clock there shows, in unix seconds, where the answer says.
    pub date: Option<u64>,
    /// The body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The place cannot be asked at all.
    #[error("{0:?} cannot be asked; give http://HOST:PORT or unix:PATH")]
    Place(String),
    /// An onion service, whose name no resolver may be asked for (RFC 7686 section 2).
    #[error("{0} is an onion service; give the address behind it, http://HOST:PORT or unix:PATH")]
    Onion(String),
    /// Nobody takes connections there.
    #[error("nobody takes connections there ({0})")]
    Connect(#[source] std::io::Error),
    /// There is somebody, but no answer.
    #[error("no answer of HTTP came from there ({0})")]
    Answer(String),
}

/// Where to ask.
#[derive(Clone, Copy)]
enum Place<'a> {
    Tcp(&'a str),
    Unix(&'a Path),
}

/// Asks `http://HOST:PORT` or `unix:PATH` for `path`. With `proxy_line` a PROXY line that names
/// nobody comes first, for a listener that wants one.
pub async fn get(url: &str, path: &str, proxy_line: bool) -> Result<Answer, ProbeError> {
    let (place, path) = parse(url, path).ok_or_else(|| ProbeError::Place(url.to_owned()))?;
    if let Place::Tcp(address) = place
        && is_onion(address)
    {
        return Err(ProbeError::Onion(url.to_owned()));
    }
    let connecting = async {
        match place {
            Place::Tcp(address) => TcpStream::connect(address).await.map(Connection::boxed),
            Place::Unix(path) => UnixStream::connect(path).await.map(Connection::boxed),
        }
    };
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    let stream = tokio::time::timeout(PATIENCE, connecting).await.map_err(late);
    let stream = stream.and_then(|stream| stream).map_err(ProbeError::Connect)?;
    let host = match place {
        Place::Tcp(address) => address,
        Place::Unix(_) => "localhost",
    };
    match tokio::time::timeout(PATIENCE, ask(stream, host, &path, proxy_line)).await {
        Ok(answer) => answer.map_err(|error| ProbeError::Answer(error.to_string())),
        Err(_) => Err(ProbeError::Answer("it took too long".to_owned())),
    }
}

/// Whether this is the name of an onion service, with a port or without.
pub(crate) fn is_onion(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.strip_suffix('.').unwrap_or(host);
    host.rsplit('.').next().is_some_and(|label| label.eq_ignore_ascii_case("onion"))
}

/// The place, and the path there.
fn parse<'a>(url: &'a str, path: &str) -> Option<(Place<'a>, String)> {
    if let Some(socket) = url.strip_prefix("unix:").filter(|socket| !socket.is_empty()) {
        return Some((Place::Unix(Path::new(socket)), path.to_owned()));
    }
    let rest = url.strip_prefix("http://")?;
    let (address, folder) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = address.rsplit_once(':')?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return None;
    }
    Some((Place::Tcp(address), format!("{}{path}", folder.trim_end_matches('/'))))
}

async fn ask(
    mut stream: Box<dyn Connection>,
    host: &str,
    path: &str,
    proxy_line: bool,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    if proxy_line {
        stream.write_all(b"PROXY UNKNOWN\r\n").await?;
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::CONNECTION, "close")
        .body(Body::empty())?;
    let asking = async {
        let answer = sender.send_request(request).await?;
        let date = answer.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let date = date.and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(Answer {
            status: answer.status(),
            date: date.map(|since| since.as_secs()),
            body: to_bytes(Body::new(answer.into_body()), MAX_BODY_BYTES).await?,
        })
    };
    tokio::pin!(asking);
    tokio::select! {
        answer = &mut asking => answer,
        // What is there of the answer by then has still to be taken.
        ended = connection => { ended?; asking.await }
    }
}

/// TCP or unix.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {
    fn boxed(self) -> Box<dyn Connection>
    where
        Self: Sized + 'static,
    {
        Box::new(self)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Connection for S {}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, UnixListener};

    const ANSWER: &[u8] = b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\
        date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nbusy";

    /// Answers one request; gives what was asked.
    async fn answer_once(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &[u8]) -> String {
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer).await.unwrap();
        String::from_utf8(asked).unwrap()
    }

    #[tokio::test]
    async fn it_asks_over_tcp_and_unix_and_reads_status_date_and_body() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/prefix/", tcp.local_addr().unwrap());
        let serving = async { answer_once(tcp.accept().await.unwrap().0, ANSWER).await };
        let (answer, asked) = tokio::join!(get(&url, "/readyz", false), serving);
        let answer = answer.unwrap();
        assert_eq!((answer.status.as_u16(), answer.date), (503, Some(784_111_777)));
        assert_eq!(answer.body, "busy");
        assert!(asked.starts_with("GET /prefix/readyz HTTP/1.1\r\n"), "{asked}");

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        let unix = UnixListener::bind(&path).unwrap();
        let url = format!("unix:{}", path.display());
        let serving = async { answer_once(unix.accept().await.unwrap().0, ANSWER).await };
        let (answer, asked) = tokio::join!(get(&url, "/readyz", true), serving);
        assert_eq!(answer.unwrap().status.as_u16(), 503);
        assert!(asked.starts_with("PROXY UNKNOWN\r\nGET /readyz "), "{asked}");
    }

    #[tokio::test]
    async fn it_tells_nobody_there_from_somebody_else() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", tcp.local_addr().unwrap());
        let serving = async { answer_once(tcp.accept().await.unwrap().0, b"220 mail\r\n").await };
        let (refused, _) = tokio::join!(get(&url, "/", false), serving);
        assert!(matches!(refused, Err(ProbeError::Answer(_))), "{refused:?}");
        drop(tcp);
        let refused = get(&url, "/", false).await;
        assert!(matches!(refused, Err(ProbeError::Connect(_))), "{refused:?}");
        for place in ["https://127.0.0.1:1", "127.0.0.1:1", "http://:1", "http://host", "unix:"] {
            let refused = get(place, "/", false).await;
            assert!(matches!(refused, Err(ProbeError::Place(_))), "{refused:?}");
        }
    }
}
