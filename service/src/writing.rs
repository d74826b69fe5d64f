//! Whether a service can write, for its `/readyz`: reads say nothing about a full disk, a standby or
//! a server whose standby is missing.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tocyn_durable::room;

/// How long a write may take that only tries.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// A database that fails is tried once in this time at most.
const RETRY: Duration = Duration::from_secs(1);
/// One that works is tried if nothing was written for this long.
const IDLE: Duration = Duration::from_secs(5);

/// Bytes that must be free after a disk was full: some transactions.
const ROOM_BYTES: usize = 1 << 18;

/// Result of the last write. The writer reports it; `/readyz` reads it, and tests with a write of its
/// own where there was none for some time.
pub struct Writing<E> {
    last: Mutex<Last<E>>,
    /// One request tries, the others wait for what it finds.
    trying: tokio::sync::Mutex<()>,
}

struct Last<E> {
    at: Option<Instant>,
    failed: Option<Arc<E>>,
}

impl<E> Default for Writing<E> {
    fn default() -> Self {
        let last = Mutex::new(Last { at: None, failed: None });
        Self { last, trying: tokio::sync::Mutex::default() }
    }
}

impl<E: Error + 'static> Writing<E> {
    /// Something was written, durably.
    pub fn succeeded(&self) {
        self.set(None);
    }

    /// Nothing could be written.
    pub fn failed(&self, error: Arc<E>) {
        self.set(Some(error));
    }

    /// How the last write failed; None if it did not, or there was none yet. Where the last one
    /// failed, or was long ago, `write` is tried first; it is told how the last one failed.
    pub async fn check<F>(&self, write: impl FnOnce(Option<Arc<E>>) -> F) -> Option<Arc<E>>
    where
        F: Future<Output = Result<(), E>>,
    {
        let _turn = self.trying.lock().await;
        let (at, failed) = {
            let last = self.last.lock().expect("no panic under the lock");
            (last.at, last.failed.clone())
        };
        let wait = if failed.is_some() { RETRY } else { IDLE };
        if at.is_some_and(|at| at.elapsed() < wait) {
            return failed;
        }
        let was_good = failed.is_none();
        match write(failed).await {
            Ok(()) => {
                if !was_good {
                    tracing::info!("the database takes writes again");
                }
                self.succeeded();
                None
            }
            Err(error) => {
                if was_good {
                    let source = error.source().map(ToString::to_string);
                    tracing::error!(%error, source, "the database takes no writes");
                }
                let error = Arc::new(error);
                self.failed(error.clone());
                Some(error)
            }
        }
    }

    fn set(&self, failed: Option<Arc<E>>) {
        let mut last = self.last.lock().expect("no panic under the lock");
        *last = Last { at: Some(Instant::now()), failed };
    }
}

/// Refuses a disk that has no room beside this database: one page may have some in a write-ahead
/// log that was begun anew, where a transaction has none.
///
/// # Errors
/// Any I/O error; see [`is_full`].
pub async fn check_room(database: PathBuf) -> io::Result<()> {
    let check = move || room::check(database.parent().unwrap_or(Path::new(".")), ROOM_BYTES);
    tokio::task::spawn_blocking(check).await.unwrap_or_else(|error| Err(error.into()))
}

/// Whether the disk has no room, or this user's share of it.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// The task that writes has ended, by a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the writer has ended; please report what the log says before this")]
pub struct WriterEnded;

/// Serves to the end, unless the writer ends before: it ends with what is served.
pub async fn while_it_writes(
    serving: impl Future<Output = ()>,
    writer: impl Future<Output = ()>,
) -> Result<(), WriterEnded> {
    tokio::select! {
        biased;
        () = serving => Ok(()),
        () = writer => Err(WriterEnded),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn nothing_is_served_without_a_writer() {
        let (never, now) = (std::future::pending, std::future::ready);
        assert_eq!(while_it_writes(never(), now(())).await, Err(WriterEnded));
        assert_eq!(while_it_writes(now(()), now(())).await, Ok(()), "they end together");
    }

    #[tokio::test]
    async fn what_failed_is_tried_again_and_what_works_is_left_alone() {
        let (writing, tried) = (Writing::<std::fmt::Error>::default(), Cell::new(0));
        let good = async |_| {
            tried.set(tried.get() + 1);
            Ok(())
        };
        assert!(writing.check(good).await.is_none());
        assert!(writing.check(good).await.is_none());
        assert_eq!(tried.get(), 1, "the first one is enough for a while");
        writing.failed(Arc::new(std::fmt::Error));
        assert!(writing.check(good).await.is_some());
        assert_eq!(tried.get(), 1, "not at once");
        writing.last.lock().unwrap().at = Some(Instant::now() - RETRY);
        let told = async |failed: Option<_>| failed.map(drop).ok_or(std::fmt::Error);
        assert!(writing.check(told).await.is_none(), "it is told that the last one failed");
        writing.last.lock().unwrap().at = Some(Instant::now() - IDLE);
        assert!(writing.check(async |_| Err(std::fmt::Error)).await.is_some());
        assert!(writing.check(good).await.is_some());
        writing.succeeded();
        assert!(writing.check(good).await.is_none());
        assert_eq!(tried.get(), 1);
    }
}
