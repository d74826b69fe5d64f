//! Reading a request's body into memory of its own. The pieces that the connection gives lie in its
//! read buffers: whoever kept them would keep eight KiB for each, and a client that sends a byte at a
//! time would take a thousand times as much memory as it sends.

use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, header};
use bytes::BytesMut;

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It has more bytes than that.
    #[error("the body is too large")]
    TooLarge,
    /// The client went away.
    #[error("the body broke off")]
    BrokenOff,
    /// It took too long.
    #[error("the body did not arrive in time")]
    Late,
}

/// The media type of a body in lower case, without parameters (RFC 9110 section 8.3.1); "" if there
/// is none, or several.
pub fn media_type(headers: &HeaderMap) -> String {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().unwrap_or_default(),
        _ => "",
    };
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Reads a body of at most `limit` bytes within `time`.
pub async fn read(mut body: Body, limit: usize, time: Duration) -> Result<Bytes, BodyError> {
    let read = async {
        let mut bytes = BytesMut::new();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
        {
            // Trailers are nothing that we use.
            let frame = frame.map_err(|_| BodyError::BrokenOff)?;
            let Some(data) = frame.data_ref() else { continue };
            if data.len() > limit - bytes.len() {
                return Err(BodyError::TooLarge);
            }
            bytes.extend_from_slice(data);
        }
        Ok(bytes.freeze())
    };
    tokio::time::timeout(time, read).await.unwrap_or(Err(BodyError::Late))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    fn pieces(pieces: &[&'static [u8]]) -> Body {
        let pieces: Vec<_> =
            pieces.iter().map(|piece| Ok::<_, std::io::Error>(Bytes::from_static(piece))).collect();
        Body::from_stream(stream::iter(pieces))
    }

    #[test]
    fn a_media_type_is_written_in_many_ways() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_TYPE, value.parse().unwrap());
            }
            media_type(&headers)
        };
        for written in [
            "application/octet-stream",
            "Application/Octet-Stream",
            "application/octet-stream; charset=binary",
            " application/octet-stream ;a=\"b;c\"",
        ] {
            assert_eq!(of(&[written]), "application/octet-stream", "{written}");
        }
        assert_eq!(of(&[]), "");
        assert_eq!(of(&["text/plain", "text/plain"]), "");
    }

    #[tokio::test]
    async fn a_body_has_a_limit_an_end_and_a_time() {
        let soon = Duration::from_secs(60);
        assert_eq!(read(pieces(&[b"ab", b"", b"c"]), 3, soon).await.unwrap(), "abc");
        assert_eq!(read(pieces(&[]), 0, soon).await.unwrap(), "");
        assert_eq!(read(pieces(&[b"ab", b"cd"]), 3, soon).await, Err(BodyError::TooLarge));
        let broken = stream::iter([Ok(Bytes::from_static(b"a")), Err(std::io::Error::other(""))]);
        assert_eq!(read(Body::from_stream(broken), 3, soon).await, Err(BodyError::BrokenOff));
        let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(read(never, 3, Duration::from_millis(1)).await, Err(BodyError::Late));
    }
}
