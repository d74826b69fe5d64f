//! The open connections, bounded in number. When all places are taken, the connection that has kept
//! us waiting longest is closed for a new one: so ten thousand that say nothing do not shut out
//! the one that asks for something.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::{Notify, oneshot};

/// Since when a client keeps us waiting: milliseconds of this process, 0 if it does not.
pub(crate) struct Waiting {
    start: Instant,
    /// For a request's head or body.
    reading: AtomicU64,
    /// To take its answer.
    writing: AtomicU64,
    /// Its place is wanted: it is closed after the answer that is in work.
    last: AtomicBool,
    /// It is closed at once.
    hung_up: Notify,
    is_hung_up: AtomicBool,
    /// Somebody waits for a place.
    crowd: Arc<Crowd>,
}

/// Those who wait for a place.
#[derive(Default)]
struct Crowd {
    waits: AtomicUsize,
    /// A place has become free, or can be made free.
    chance: Notify,
}

impl Waiting {
    fn new(start: Instant, crowd: Arc<Crowd>) -> Self {
        let waiting = Self {
            start,
            reading: AtomicU64::new(0),
            writing: AtomicU64::new(0),
            last: AtomicBool::new(false),
            hung_up: Notify::new(),
            is_hung_up: AtomicBool::new(false),
            crowd,
        };
        waiting.to_read(true);
        waiting
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64 + 1
    }

    /// We wait for the client's bytes from now on, or not any more.
    pub(crate) fn to_read(&self, waits: bool) {
        self.reading.store(if waits { self.now() } else { 0 }, Relaxed);
        self.tell(waits);
    }

    fn tell(&self, waits: bool) {
        if waits && self.crowd.waits.load(Relaxed) > 0 {
            self.crowd.chance.notify_one();
        }
    }

    /// Ready once it is to be closed at once.
    pub(crate) async fn hung_up(&self) {
        while !self.is_hung_up.load(Relaxed) {
            self.hung_up.notified().await;
        }
    }

    /// Whether the answer in work is the last one of this connection.
    pub(crate) fn is_last(&self) -> bool {
        self.last.load(Relaxed)
    }

    /// We wait for the client to take bytes, or not any more.
    pub(crate) fn to_write(&self, waits: bool) {
        let before = self.writing.load(Relaxed);
        if waits != (before != 0) {
            self.writing.store(if waits { self.now() } else { 0 }, Relaxed);
            self.tell(waits);
        }
    }

    /// Since when, of either.
    fn since(&self) -> Option<u64> {
        [&self.writing, &self.reading].map(|at| at.load(Relaxed)).into_iter().find(|at| *at != 0)
    }
}

/// The connection that a request came over, for who answers it.
#[derive(Clone)]
pub struct Connection(pub(crate) Arc<Waiting>);

impl Connection {
    /// One of nobody, for tests.
    pub fn detached() -> Self {
        Self(Arc::new(Waiting::new(Instant::now(), Arc::default())))
    }

    /// Closes it, whatever is under way.
    pub fn hang_up(&self) {
        self.0.is_hung_up.store(true, Relaxed);
        // One that does not wait yet is told too.
        self.0.hung_up.notify_one();
    }

    /// Since when its client takes none of what is written, in milliseconds of this process; None
    /// while it takes some.
    pub fn takes_nothing_since(&self) -> Option<u64> {
        Some(self.0.writing.load(Relaxed)).filter(|since| *since != 0)
    }

    /// Whether it was told to close.
    pub fn is_hung_up(&self) -> bool {
        self.0.is_hung_up.load(Relaxed)
    }
}

/// All open connections of some listeners.
pub(crate) struct Connections {
    start: Instant,
    max: usize,
    table: Mutex<Table>,
    crowd: Arc<Crowd>,
    evicted: AtomicU64,
}

#[derive(Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Open>,
}

struct Open {
    waiting: Arc<Waiting>,
    /// Dropped, it closes the connection.
    _close: oneshot::Sender<()>,
}

/// A connection's place; free again when it is dropped.
pub(crate) struct Place {
    number: u64,
    connections: Arc<Connections>,
    pub(crate) waiting: Arc<Waiting>,
    /// Ends when another connection needs the place.
    pub(crate) closed: oneshot::Receiver<()>,
}

impl Connections {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            max,
            table: Mutex::default(),
            crowd: Arc::default(),
            evicted: AtomicU64::new(0),
        })
    }

    /// Connections that are open now.
    pub(crate) fn open(&self) -> usize {
        self.table.lock().expect("no panic under the lock").open.len()
    }

    /// Connections that were closed for others so far.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    /// A place, when there is one: at once unless every connection has a request in work. Then
    /// the oldest one has no other request after that, however many it has sent already.
    pub(crate) async fn enter(self: &Arc<Self>) -> Place {
        if let Some(place) = self.try_enter() {
            return place;
        }
        let _one = OneMore::of(&self.crowd);
        loop {
            let chance = self.crowd.chance.notified();
            if let Some(place) = self.try_enter() {
                return place;
            }
            self.end_oldest();
            chance.await;
        }
    }

    /// Closes the one that has kept us waiting longest, as for another one; false if none does.
    pub(crate) fn evict_one(&self) -> bool {
        let mut table = self.table.lock().expect("no panic under the lock");
        self.evict(&mut table)
    }

    fn evict(&self, table: &mut Table) -> bool {
        let waiting = table.open.iter().filter_map(|(n, open)| Some((open.waiting.since()?, *n)));
        let Some((_, longest)) = waiting.min() else { return false };
        table.open.remove(&longest);
        self.evicted.fetch_add(1, Relaxed);
        true
    }

    fn end_oldest(&self) {
        let table = self.table.lock().expect("no panic under the lock");
        let lasting = table.open.iter().filter(|(_, open)| !open.waiting.is_last());
        if let Some((_, open)) = lasting.min_by_key(|(number, _)| **number) {
            open.waiting.last.store(true, Relaxed);
        }
    }

    fn try_enter(self: &Arc<Self>) -> Option<Place> {
        let mut table = self.table.lock().expect("no panic under the lock");
        if table.open.len() >= self.max && !self.evict(&mut table) {
            return None;
        }
        let (close, closed) = oneshot::channel();
        let waiting = Arc::new(Waiting::new(self.start, self.crowd.clone()));
        let number = table.next;
        table.next += 1;
        table.open.insert(number, Open { waiting: waiting.clone(), _close: close });
        Some(Place { number, connections: self.clone(), waiting, closed })
    }
}

/// Counts one who waits.
struct OneMore<'a>(&'a Crowd);

impl<'a> OneMore<'a> {
    fn of(crowd: &'a Crowd) -> Self {
        crowd.waits.fetch_add(1, Relaxed);
        Self(crowd)
    }
}

impl Drop for OneMore<'_> {
    fn drop(&mut self) {
        self.0.waits.fetch_sub(1, Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.connections.table.lock().expect("no panic under the lock");
        table.open.remove(&self.number);
        drop(table);
        self.connections.crowd.chance.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::time::Duration;

    #[tokio::test]
    async fn the_one_that_waits_longest_goes_and_one_in_work_never_does() {
        let connections = Connections::new(3);
        let mut places = Vec::new();
        for _ in 0..3 {
            places.push(connections.enter().await);
            std::thread::sleep(Duration::from_millis(3));
        }
        places[0].waiting.to_read(false); // a request is in work
        let new = connections.enter().await;
        assert!(
            places[1].closed.try_recv().is_err_and(|e| e == oneshot::error::TryRecvError::Closed)
        );
        assert!(
            places[0].closed.try_recv().is_err_and(|e| e == oneshot::error::TryRecvError::Empty)
        );
        assert_eq!((connections.open(), connections.evicted()), (3, 1));
        for place in [&places[2], &new] {
            place.waiting.to_read(false);
        }
        assert!(connections.enter().now_or_never().is_none(), "all are in work");
        places[2].waiting.to_write(true); // takes none of its answer
        let another = connections.enter().await;
        another.waiting.to_read(false);
        assert_eq!(connections.evicted(), 2);
        let mut waiting = Box::pin(connections.enter());
        assert!((&mut waiting).now_or_never().is_none());
        places.remove(0);
        assert!(waiting.now_or_never().is_some(), "one left");
    }

    #[tokio::test]
    async fn who_waits_is_told_of_each_chance_and_the_oldest_gets_no_other_turn() {
        let connections = Connections::new(2);
        let places = [connections.enter().await, connections.enter().await];
        for place in &places {
            place.waiting.to_read(false);
        }
        let mut waiting = Box::pin(connections.enter());
        assert!((&mut waiting).now_or_never().is_none());
        assert!(places[0].waiting.is_last() && !places[1].waiting.is_last());
        places[1].waiting.to_read(true);
        assert!(waiting.now_or_never().is_some(), "it waits for its client now");
    }
}
