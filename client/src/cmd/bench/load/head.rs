//! The head of an answer, and how its body is framed.

use std::io::{Error, ErrorKind, Result};

/// Header lines that an answer may have.
const MAX_HEADERS: usize = 64;

/// What comes next of an answer's body.
#[derive(Clone, Copy)]
pub(super) enum Body {
    End,
    Length(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailer,
}

/// A parsed head.
pub(super) struct Head {
    /// Its length.
    pub(super) bytes: usize,
    pub(super) status: u16,
    pub(super) body: Body,
    /// Whether the other side closes the connection after this answer.
    pub(super) closing: bool,
}

/// The head of an answer, if all of it is there.
pub(super) fn parse_head(received: &[u8]) -> Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let parsed = answer.parse(received).map_err(|error| no_http(&error.to_string()))?;
    let httparse::Status::Complete(bytes) = parsed else { return Ok(None) };
    let status = answer.code.unwrap_or_default();
    let mut body = if matches!(status, 100..200 | 204 | 304) { Some(Body::End) } else { None };
    let mut closing = answer.version == Some(0);
    for header in answer.headers.iter() {
        let value = str::from_utf8(header.value).unwrap_or_default().trim();
        if header.name.eq_ignore_ascii_case("content-length") {
            let length = value.parse().map_err(|_| no_http("a length that is no number"))?;
            body.get_or_insert(Body::Length(length));
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(no_http("an encoding other than chunked"));
            }
            body = Some(Body::ChunkSize);
        } else if header.name.eq_ignore_ascii_case("connection") {
            closing |= value.eq_ignore_ascii_case("close");
        }
    }
    let body = body.ok_or_else(|| no_http("a body without a length"))?;
    Ok(Some(Head { bytes, status, body, closing }))
}

/// What is received is something else.
pub(super) fn no_http(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("the answer is no HTTP/1.1: {what}"))
}
