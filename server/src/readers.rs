//! Memory for those who read: one budget of bytes for the pages of all of them. A page is held until
//! its reader's connection has taken it. Where the budget is spent, the reader that has taken nothing
//! for longest is cut off, and may come again: it does not keep others waiting.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tocyn_service::serve::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of a page, unless one message has more.
pub(crate) const PAGE_BYTES: usize = 32 * 1024;
/// How long a reader that was cut off may take to let go, before another one is.
const PATIENCE: Duration = Duration::from_millis(100);

/// The budget, and who holds how much of it.
pub(crate) struct Readers {
    bytes: Arc<Semaphore>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    next: u64,
    /// By the order in which they were handed out.
    pages: BTreeMap<u64, Connection>,
}

/// Room for a page.
pub(crate) struct Room {
    readers: Arc<Readers>,
    permit: OwnedSemaphorePermit,
    connection: Option<Connection>,
}

/// A page on its way.
struct Page {
    bytes: Box<[u8]>,
    _permit: OwnedSemaphorePermit,
    readers: Arc<Readers>,
    number: Option<u64>,
}

impl Readers {
    /// With room for so many bytes.
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        let bytes = Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { bytes, held: Mutex::default() })
    }

    /// Room for a page of so many bytes, of a reader on this connection.
    pub(crate) async fn room(
        self: &Arc<Self>,
        bytes: usize,
        connection: Option<Connection>,
    ) -> Room {
        let bytes = u32::try_from(bytes).expect("a page is smaller than that");
        let take = || self.bytes.clone().acquire_many_owned(bytes);
        let permit = match self.bytes.clone().try_acquire_many_owned(bytes) {
            Ok(permit) => permit,
            Err(_) => loop {
                self.cut_off_oldest();
                if let Ok(permit) = tokio::time::timeout(PATIENCE, take()).await {
                    break permit.expect("the budget is never closed");
                }
            },
        };
        Room { readers: self.clone(), permit, connection }
    }

    fn cut_off_oldest(&self) {
        let mut held = self.held.lock().expect("no panic under the lock");
        let idle = |(number, connection): (&u64, &Connection)| {
            (connection.takes_nothing_since().unwrap_or(u64::MAX), *number)
        };
        let longest = held.pages.iter().map(idle).min();
        if let Some(connection) = longest.and_then(|(_, number)| held.pages.remove(&number)) {
            connection.hang_up();
        }
    }
}

impl Room {
    /// A copy of a page, which may be shorter than the room. Not a part of what it was read from: that
    /// would stay in memory as a whole.
    pub(crate) fn fill(mut self, page: &[u8]) -> Bytes {
        let spare = self.permit.num_permits().saturating_sub(page.len());
        drop(self.permit.split(spare));
        let number = self.connection.map(|connection| {
            let mut held = self.readers.held.lock().expect("no panic under the lock");
            let number = held.next;
            held.next += 1;
            held.pages.insert(number, connection);
            number
        });
        let (bytes, readers) = (page.into(), self.readers);
        Bytes::from_owner(Page { bytes, _permit: self.permit, readers, number })
    }
}

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.readers.held.lock().expect("no panic under the lock").pages.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn the_one_that_holds_longest_is_cut_off_for_the_next() {
        let readers = Readers::new(100);
        let connections: Vec<Connection> = (0..3).map(|_| Connection::detached()).collect();
        let page = async |n: usize, bytes: usize| {
            let room = readers.room(bytes, Some(connections[n].clone())).await;
            room.fill(&vec![n as u8; bytes])
        };
        let (first, second) = (page(0, 40).await, page(1, 60).await);
        assert_eq!((&first[..], second.len()), (&[0; 40][..], 60));
        let mut third = Box::pin(readers.room(40, Some(connections[2].clone())));
        assert!((&mut third).now_or_never().is_none());
        assert_eq!(connections.each_hung_up(), [true, false, false]);
        drop(first); // as its connection does
        let third = third.await.fill(&[2; 10]);
        // What the page does not need is free again.
        assert!(readers.room(30, None).now_or_never().is_some());
        assert!(readers.room(31, None).now_or_never().is_none());
        drop((second, third));
        assert_eq!(readers.bytes.available_permits(), 100);
        assert!(readers.held.lock().unwrap().pages.is_empty());
    }

    trait EachHungUp {
        fn each_hung_up(&self) -> [bool; 3];
    }

    impl EachHungUp for Vec<Connection> {
        fn each_hung_up(&self) -> [bool; 3] {
            [0, 1, 2].map(|n| self[n].is_hung_up())
        }
    }
}
