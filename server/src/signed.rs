//! The size of the log that was last signed, in a file beside its key: a database that has fewer
//! messages went back, and has forgotten which tokens were spent since.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tocyn_durable::names;
use tocyn_protocol::pairing::{Pairing, PairingId};
use tocyn_service::folder::FolderError;
use tokio::sync::watch;

/// How long a new size may wait for its write: a log that grows is signed hundreds of times a second.
const INTERVAL: Duration = Duration::from_secs(1);
/// Digits of the size in the file, so that a new line is written over the old one.
const DIGITS: usize = 20;
/// Bytes of the file: the size, a space, the pairing's id in hex, the end of the line. A disk writes
/// them as a whole.
const LINE_BYTES: usize = DIGITS + 1 + 64 + 1;

/// Newest signed size, and the pairing of that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Messages that the log had, at least.
    pub size: u64,
    /// The newest pairing that was served with from this data folder.
    pub pairing: PairingId,
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

    /// Why this pairing is not served from a database with `head` messages, and what to do. None if
    /// nothing was lost, or the pairing replaces the one that was served with: none of its tokens was
    /// spent before.
    pub fn refusal(&self, head: u64, pairing: &Pairing) -> Option<String> {
        let size = self.size;
        if size <= head || pairing.replaces().contains(&self.pairing) {
            return None;
        }
        Some(format!(
            "this relay has signed a log of {size} messages, but the database has only {head}: it \
             was copied without its -wal file, restored, rolled back, or is another one. It has \
             forgotten which tokens were spent since. Put the right database back. If it is lost, \
             run `tocyn-issuer pairing renew` now, and `tocyn-relay pairing install FILE` with the \
             new pairing.toml: then the log goes on from message {head}, and readers see that it \
             went back"
        ))
    }

    fn line(self) -> String {
        format!("{:0width$} {}\n", self.size, self.pairing, width = DIGITS)
    }
}

fn parse(line: &str) -> Option<Signed> {
    let (size, id) = line.strip_suffix('\n')?.split_once(' ')?;
    let id = hex::decode(id).ok()?.try_into().ok()?;
    Some(Signed { size: size.parse().ok()?, pairing: PairingId(id) })
}

fn damaged(path: &Path) -> FolderError {
    let reason = "it does not say which size of the log was signed last. If the database is whole, \
        as `tocyn-relay db check` says, and was not put back, remove this file: the relay makes a \
        new one";
    FolderError::invalid(path, reason)
}

/// The file, to write it.
pub struct SignedFile(File);

impl SignedFile {
    /// Opens the file, and makes it if it is not there, for a log without messages.
    pub fn open(path: &Path, pairing: PairingId) -> Result<Self, FolderError> {
        let failed = |source| FolderError::io(path, source, "");
        match names::create_new(path, 0o600, Signed { size: 0, pairing }.line().as_bytes()) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        OpenOptions::new().read(true).write(true).open(path).map(Self).map_err(failed)
    }

    /// Notes that this pairing is served with, before anybody is served.
    pub fn serve_with(&self, pairing: PairingId) -> io::Result<()> {
        self.change(|last| Signed { pairing, ..last })
    }

    /// Writes a larger size, durably. Several relays that share a folder may write at once.
    pub fn raise(&self, size: u64) -> io::Result<()> {
        self.change(|last| Signed { size: size.max(last.size), ..last })
    }

    /// Goes back to a smaller log, with a pairing of its own: both in one write, since the new pairing
    /// beside the old size would be refused.
    pub fn go_back(&self, signed: Signed) -> io::Result<()> {
        self.change(|_| signed)
    }

    fn change(&self, change: impl FnOnce(Signed) -> Signed) -> io::Result<()> {
        self.0.lock()?;
        let written = (|| {
            let mut line = [0; LINE_BYTES];
            self.0.read_exact_at(&mut line, 0)?;
            let last = str::from_utf8(&line).ok().and_then(parse);
            let last = last.ok_or_else(|| io::Error::other("it is damaged"))?;
            let signed = change(last);
            if signed == last {
                return Ok(());
            }
            self.0.write_all_at(signed.line().as_bytes(), 0)?;
            self.0.sync_data()
        })();
        self.0.unlock()?;
        written
    }
}

/// Writes each size about a second after it was signed.
pub async fn keep_forever(file: Arc<SignedFile>, mut sizes: watch::Receiver<u64>) -> Infallible {
    let mut has_failed = false;
    loop {
        let (file, size) = (file.clone(), *sizes.borrow_and_update());
        let written = tokio::task::spawn_blocking(move || file.raise(size)).await;
        let written = written.unwrap_or_else(|error| Err(error.into()));
        if let (Err(error), false) = (&written, has_failed) {
            tracing::error!(
                %error,
                "cannot write log.size: should the database go back now, it is not noticed"
            );
        }
        has_failed = written.is_err();
        tokio::time::sleep(INTERVAL).await;
        if !has_failed && sizes.changed().await.is_err() {
            std::future::pending::<()>().await; // the log is no more
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: PairingId = PairingId([1; 32]);
    const TWO: PairingId = PairingId([2; 32]);

    #[test]
    fn a_size_is_raised_and_lowered_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.size");
        assert_eq!(Signed::read(&path).unwrap(), None);
        let file = SignedFile::open(&path, ONE).unwrap();
        let read = || Signed::read(&path).unwrap().unwrap();
        assert_eq!(read(), Signed { size: 0, pairing: ONE });
        file.raise(5).unwrap();
        let other = SignedFile::open(&path, TWO).unwrap();
        assert_eq!(read(), Signed { size: 5, pairing: ONE }, "it is there");
        other.serve_with(TWO).unwrap();
        other.raise(3).unwrap();
        assert_eq!(read(), Signed { size: 5, pairing: TWO }, "the one that is behind");
        file.go_back(Signed { size: 2, pairing: ONE }).unwrap();
        assert_eq!(read(), Signed { size: 2, pairing: ONE });
        file.raise(u64::MAX).unwrap();
        assert_eq!(read(), Signed { size: u64::MAX, pairing: ONE });
        assert_eq!(std::fs::metadata(&path).unwrap().len(), LINE_BYTES as u64);
        let half = &Signed { size: 1, pairing: ONE }.line()[..LINE_BYTES - 2];
        for damaged in ["", "1\n", half] {
            names::replace(&path, 0o600, damaged.as_bytes()).unwrap();
            assert!(Signed::read(&path).is_err(), "{damaged:?}");
            assert!(SignedFile::open(&path, ONE).unwrap().raise(1).is_err());
        }
    }

    #[test]
    fn only_a_pairing_that_replaces_the_served_one_goes_on() {
        let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
        let old = Pairing::generate("i", "r", 0, 1000, rng).unwrap();
        let new = old.successor(1, rng).unwrap();
        let newest = new.successor(2, rng).unwrap();
        let stranger = Pairing::generate("i", "r", 9, 1000, rng).unwrap();
        let signed = Signed { size: 5, pairing: new.id() };
        assert_eq!(signed.refusal(5, &new), None);
        assert_eq!(signed.refusal(4, &newest), None);
        for pairing in [old, new, stranger] {
            assert!(signed.refusal(4, &pairing).unwrap().contains("signed a log of 5"));
        }
    }

    #[tokio::test]
    async fn each_size_is_written_in_the_end_and_a_failed_write_is_done_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.size");
        let (sender, sizes) = watch::channel(1);
        let file = Arc::new(SignedFile::open(&path, ONE).unwrap());
        let keeping = tokio::spawn(keep_forever(file, sizes));
        let becomes = async |size| {
            while !Signed::read(&path).is_ok_and(|signed| signed.unwrap().size == size) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        becomes(1).await;
        // In place: the file that is open stays the one that has the name.
        std::fs::File::options().write(true).open(&path).unwrap().write_at(b"x", 0).unwrap();
        sender.send_replace(2);
        tokio::time::sleep(2 * INTERVAL).await;
        let whole = Signed { size: 1, pairing: ONE }.line();
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .write_at(whole.as_bytes(), 0)
            .unwrap();
        becomes(2).await;
        drop(sender);
        tokio::time::sleep(2 * INTERVAL).await;
        assert!(!keeping.is_finished(), "who serves ends it");
        keeping.abort();
    }
}
