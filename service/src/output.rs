//! What the commands print. The print macros panic if it cannot be written; here that is an error,
//! and a closed pipe is none.

use std::fmt::Display;
use std::io::{self, ErrorKind, StdoutLock, Write};

/// Standard output; its errors name it.
pub struct Stdout(StdoutLock<'static>);

/// Standard output, locked.
pub fn stdout() -> Stdout {
    Stdout(io::stdout().lock())
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(unwritten)
    }

    // Whole lines, as the default would not.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).map_err(unwritten)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(unwritten)
    }
}

fn unwritten(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write to standard output: {error}"))
}

/// Prints text and ends the line. If the reader has closed its end, the command goes on: its work
/// is done all the same, and its verdict is its status.
pub fn print(text: impl Display) -> io::Result<()> {
    let mut out = stdout();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Tells the person at the terminal, on standard error. If that cannot be written, there is nobody
/// to tell.
pub fn tell(text: impl Display) {
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}
