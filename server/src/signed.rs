//! The size of the log that was last signed, in a file beside its key: a database that has fewer
//! messages went back, and has forgotten which tokens were spent since.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use tocyn_durable::names;
use tocyn_protocol::pairing::Pairing;
use tocyn_service::folder::FolderError;
use tokio::sync::watch;

use crate::Clock;

/// How long a new size may wait for its write: a log that grows is signed hundreds of times a second.
const INTERVAL: Duration = Duration::from_secs(1);
/// Digits of each of the two numbers in the file, so that a new line is written over the old one.
const DIGITS: usize = 20;
/// Bytes of the file: two numbers, a space and the end of the line. A disk writes them as a whole.
const LINE_BYTES: usize = 2 * DIGITS + 2;

/// What is known of the log without its database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signed {
    /// Messages that it had, at least.
    pub size: u64,
    /// When it had them, in unix seconds.
    pub at: u64,
}

impl Signed {
    /// Reads the file; None if it is not there. The last second before a crash may not be in it.
    pub fn read(path: &Path) -> Result<Option<Self>, FolderError> {
        match std::fs::read_to_string(path) {
            Ok(line) => parse(&line).map(Some).ok_or_else(|| damaged(path)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FolderError::io(path, source, "")),
        }
    }

    /// What both know together.
    pub fn and(self, other: Self) -> Self {
        Self { size: self.size.max(other.size), at: self.at.max(other.at) }
    }

    /// Whether a database with `head` messages has lost some.
    pub fn is_ahead_of(self, head: u64) -> bool {
        self.size > head
    }

    /// Why this pairing is not served from a database with `head` messages, and what to do. None if
    /// nothing was lost, or the pairing was made after that.
    pub fn refusal(self, head: u64, pairing: &Pairing) -> Option<String> {
        if !self.is_ahead_of(head) || pairing.schedule().genesis > self.at {
            return None;
        }
        let size = self.size;
        Some(format!(
            "this relay has signed a log of {size} messages, but the database has only {head}: it \
             was copied without its -wal file, restored, rolled back, or is another one. It has \
             forgotten which tokens were spent since. Put the right database back. If it is lost, \
             run `tocyn-issuer pairing renew` now, and `tocyn-relay pairing install FILE` with the \
             new pairing.toml: then the log goes on from message {head}, and readers see that it \
             went back"
        ))
    }
}

/// The file, to write it.
pub struct SignedFile(File);

impl SignedFile {
    /// Opens the file, and makes it if it is not there.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let failed = |source| FolderError::io(path, source, "");
        match names::create_new(path, 0o600, Signed::default().line().as_bytes()) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        OpenOptions::new().read(true).write(true).open(path).map(Self).map_err(failed)
    }

    /// Writes a larger size, durably. Several relays that share a folder may write at once.
    pub fn raise(&self, signed: Signed) -> io::Result<()> {
        self.write(|last| (signed.size > last.size).then_some(signed))
    }

    /// Goes back to this size: the operator has given up what came after it.
    pub fn lower(&self, size: u64) -> io::Result<()> {
        self.write(|last| (size < last.size).then_some(Signed { size, ..last }))
    }

    fn write(&self, change: impl FnOnce(Signed) -> Option<Signed>) -> io::Result<()> {
        self.0.lock()?;
        let written = (|| {
            let mut line = [0; LINE_BYTES];
            self.0.read_exact_at(&mut line, 0)?;
            let last = str::from_utf8(&line).ok().and_then(parse);
            let last = last.ok_or_else(|| io::Error::other("it is damaged"))?;
            let Some(signed) = change(last) else { return Ok(()) };
            self.0.write_all_at(signed.line().as_bytes(), 0)?;
            self.0.sync_data()
        })();
        self.0.unlock()?;
        written
    }
}

/// Writes each size about a second after it was signed, and the last one when the log is no more.
pub async fn keep_forever(file: SignedFile, mut sizes: watch::Receiver<u64>, clock: Clock) {
    let file = std::sync::Arc::new(file);
    let (mut is_last, mut has_failed) = (false, false);
    while !is_last {
        let (file, signed) =
            (file.clone(), Signed { size: *sizes.borrow_and_update(), at: clock() });
        let written = tokio::task::spawn_blocking(move || file.raise(signed)).await;
        let written = written.unwrap_or_else(|error| Err(error.into()));
        match &written {
            Err(error) if !has_failed => {
                tracing::error!(
                    %error,
                    "cannot write log.size: should the database go back, it is not noticed"
                );
            }
            _ => {}
        }
        has_failed = written.is_err();
        is_last = sizes.changed().await.is_err();
        if !is_last {
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

impl Signed {
    fn line(self) -> String {
        format!("{:0width$} {:0width$}\n", self.size, self.at, width = DIGITS)
    }
}

fn parse(line: &str) -> Option<Signed> {
    let (size, at) = line.strip_suffix('\n')?.split_once(' ')?;
    Some(Signed { size: size.parse().ok()?, at: at.parse().ok()? })
}

fn damaged(path: &Path) -> FolderError {
    let reason = "it is not two numbers: the size of the log that was last signed, and when. If \
        the database is whole, as `tocyn-relay db check` says, and was not put back, remove this \
        file: the relay makes a new one";
    FolderError::invalid(path, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_raised_and_lowered_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.size");
        assert_eq!(Signed::read(&path).unwrap(), None);
        let (file, other) = (SignedFile::open(&path).unwrap(), SignedFile::open(&path).unwrap());
        assert_eq!(Signed::read(&path).unwrap(), Some(Signed::default()));
        let read = || Signed::read(&path).unwrap().unwrap();
        file.raise(Signed { size: 5, at: 10 }).unwrap();
        other.raise(Signed { size: 3, at: 20 }).unwrap();
        assert_eq!(read(), Signed { size: 5, at: 10 }, "the one that is behind changes nothing");
        file.lower(2).unwrap();
        assert_eq!(read(), Signed { size: 2, at: 10 });
        file.raise(Signed { size: u64::MAX, at: u64::MAX }).unwrap();
        assert_eq!(read(), Signed { size: u64::MAX, at: u64::MAX });
        assert_eq!(std::fs::metadata(&path).unwrap().len(), LINE_BYTES as u64);
        for damaged in ["", "1\n", "00000000000000000001 0000000000000000000x\n"] {
            names::replace(&path, 0o600, damaged.as_bytes()).unwrap();
            assert!(Signed::read(&path).is_err(), "{damaged:?}");
            assert!(SignedFile::open(&path).unwrap().raise(Signed { size: 1, at: 1 }).is_err());
        }
    }

    #[tokio::test]
    async fn the_last_size_is_written_when_the_log_is_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.size");
        let (sender, sizes) = watch::channel(1);
        let clock: Clock = std::sync::Arc::new(|| 7);
        let keeping = tokio::spawn(keep_forever(SignedFile::open(&path).unwrap(), sizes, clock));
        while Signed::read(&path).unwrap() != Some(Signed { size: 1, at: 7 }) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        sender.send_replace(2);
        sender.send_replace(3);
        drop(sender);
        keeping.await.unwrap();
        assert_eq!(Signed::read(&path).unwrap().unwrap().size, 3);
    }
}
