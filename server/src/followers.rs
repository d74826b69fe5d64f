//! Those who wait for new messages: so many at once. For one more, the stream of the one that follows
//! longest ends; its client asks again by itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

/// All of them.
pub(crate) struct Followers {
    max: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    open: BTreeMap<u64, oneshot::Sender<()>>,
}

/// The place of one; free again when it is dropped.
pub(crate) struct Follower {
    followers: Arc<Followers>,
    number: u64,
    /// Ready when another one needs the place.
    pub(crate) ended: oneshot::Receiver<()>,
}

impl Followers {
    /// Nobody yet, and so many at most.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, table: Mutex::default() })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.table.lock().expect("no panic under the lock").open.len()
    }

    /// A place, if need be that of the oldest.
    pub(crate) fn enter(self: &Arc<Self>) -> Follower {
        let mut table = self.table.lock().expect("no panic under the lock");
        if table.open.len() >= self.max {
            table.open.pop_first(); // dropped, it ends
        }
        let (end, ended) = oneshot::channel();
        let number = table.next;
        table.next += 1;
        table.open.insert(number, end);
        Follower { followers: self.clone(), number, ended }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.followers.table.lock().expect("no panic under the lock").open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oneshot::error::TryRecvError::{Closed, Empty};

    #[test]
    fn the_oldest_ends_for_one_more() {
        let followers = Followers::new(2);
        let (mut first, mut second) = (followers.enter(), followers.enter());
        assert_eq!((first.ended.try_recv(), followers.len()), (Err(Empty), 2));
        let third = followers.enter();
        assert_eq!((first.ended.try_recv(), second.ended.try_recv()), (Err(Closed), Err(Empty)));
        drop(first);
        assert_eq!(followers.len(), 2, "it had lost its place before");
        drop((second, third));
        assert_eq!(followers.len(), 0);
    }
}
