//! The PROXY protocol, version 1: one line before the first request, in which Tor
//! (`HiddenServiceExportCircuitID haproxy`) or a proxy says whose connection this is. Its source
//! address, behind Tor made up of the circuit's number, is the only handle on a client. It is
//! hashed with a key of this process and never kept or logged.

use std::io::{Error, ErrorKind, Result};
use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest line, with its end (proxy-protocol.txt, section 2.1).
const MAX_LINE_BYTES: usize = 107;

/// The first half of the addresses in which Tor writes a circuit's number at the end.
const TOR_CIRCUIT: [u16; 4] = [0xfc00, 0xdead, 0xbeef, 0x4dad];

/// Reads the line, and nothing after it: whose connection it is, or none where it says `UNKNOWN`.
pub(crate) async fn read_source(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<IpAddr>> {
    let mut line = Vec::with_capacity(MAX_LINE_BYTES);
    // Byte by byte: what comes after it belongs to the first request, and the kernel has it ready.
    while !line.ends_with(b"\r\n") {
        if line.len() == MAX_LINE_BYTES || !b"PROXY ".starts_with(&line[..line.len().min(6)]) {
            return Err(Error::from(ErrorKind::InvalidData));
        }
        line.push(stream.read_u8().await?);
    }
    let invalid = || Error::from(ErrorKind::InvalidData);
    let line = std::str::from_utf8(&line).map_err(|_| invalid())?;
    let mut words = line.trim_end().split(' ');
    match (words.next(), words.next()) {
        (Some("PROXY"), Some("UNKNOWN")) => Ok(None),
        (Some("PROXY"), Some("TCP4" | "TCP6")) => {
            let words: Vec<&str> = words.collect();
            let [source, _destination, _source_port, _destination_port] = words[..] else {
                return Err(invalid());
            };
            source.parse().map(client).map(Some).map_err(|_| invalid())
        }
        _ => Err(invalid()),
    }
}

/// What counts as one client: a whole IPv6 network of 64 bits, for everyone who has one address
/// in it has all of them.
fn client(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(source) if source.segments()[..4] != TOR_CIRCUIT => {
            IpAddr::V6((source.to_bits() >> 64 << 64).into())
        }
        source => source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> (Result<Option<IpAddr>>, usize) {
        let mut rest = bytes;
        let source = read_source(&mut rest).await;
        (source, rest.len())
    }

    #[tokio::test]
    async fn the_line_is_read_and_what_follows_is_left() {
        let (source, rest) =
            read(b"PROXY TCP6 fc00:dead:beef:4dad::12:3456 ::1 65535 80\r\nGET / ").await;
        assert_eq!(source.unwrap().unwrap().to_string(), "fc00:dead:beef:4dad::12:3456");
        assert_eq!(rest, 6);
        for (source, client) in [
            ("TCP4 1.2.3.4", "1.2.3.4"),
            ("TCP6 ::ffff:1.2.3.4", "1.2.3.4"),
            ("TCP6 2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("TCP6 2001:db8:1:2::9", "2001:db8:1:2::"),
        ] {
            let line = format!("PROXY {source} 5.6.7.8 1 2\r\n");
            assert_eq!(read(line.as_bytes()).await.0.unwrap().unwrap().to_string(), client);
        }
        assert_eq!(read(b"PROXY UNKNOWN what ever\r\n").await.0.unwrap(), None);
    }

    #[tokio::test]
    async fn anything_else_is_refused_without_reading_on() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
            b"PROXY TCP4 here there 1 2\r\n",
            b"PROXY UNIX a b 1 2\r\n",
            b"PROXY TCP4 \xff 5.6.7.8 1 2\r\n",
            b"PROXY TCP4",
            b"",
        ] {
            assert!(read(bytes).await.0.is_err(), "{bytes:?}");
        }
        let endless = [b"PROXY ".as_slice(), &[b'x'; 500]].concat();
        let (refused, rest) = read(&endless).await;
        assert!(refused.is_err() && rest == endless.len() - MAX_LINE_BYTES);
        assert_eq!(read(b"GET / HTTP/1.1\r\n\r\n").await.1, 17, "one byte tells");
    }
}
