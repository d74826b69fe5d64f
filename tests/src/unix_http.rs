//! HTTP over unix sockets, where the operator's pages are.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::raw_http::head;

/// No answer takes longer, unless the service hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Gets a page; gives its body.
///
/// # Panics
/// If the answer is not 200.
pub fn get(socket: &Path, path: &str) -> String {
    let mut stream = UnixStream::connect(socket)
        .unwrap_or_else(|error| panic!("nobody listens at {}: {error}", socket.display()));
    stream.set_read_timeout(Some(PATIENCE)).expect("a duration above zero");
    stream.write_all(&head("GET", path, &[])).expect("the service reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the answer is text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}
