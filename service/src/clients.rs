//! What one client may do, where a proxy tells clients apart: so many connections at once, and so
//! many refused requests a minute. A client is a number here, its source hashed under a key that
//! this process draws when it starts.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Refusals are counted in windows of this length.
pub const WINDOW: Duration = Duration::from_secs(60);
/// With more clients than this the table is looked through for those to forget, each time after
/// [`SWEEP`].
const MANY: usize = 65_536;
const SWEEP: Duration = Duration::from_secs(1);

/// Bounds for each client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Connections at once.
    pub connections: u32,
    /// Refused requests in one [`WINDOW`].
    pub refusals: u32,
}

/// The clients of a service.
pub struct Clients {
    budget: Budget,
    key: RandomState,
    table: Mutex<Table>,
}

struct Table {
    clients: HashMap<u64, Client>,
    swept: Instant,
}

struct Client {
    open: u32,
    refused: u32,
    window: Instant,
}

impl Client {
    /// Refusals of an earlier window are forgotten.
    fn roll(&mut self, now: Instant) {
        if now.duration_since(self.window) >= WINDOW {
            (self.refused, self.window) = (0, now);
        }
    }
}

/// One connection of one client; the client may open another when it is dropped.
pub struct Guest {
    clients: Arc<Clients>,
    number: u64,
}

impl Clients {
    /// No clients yet.
    pub fn new(budget: Budget) -> Arc<Self> {
        let table = Table { clients: HashMap::new(), swept: Instant::now() };
        Arc::new(Self { budget, key: RandomState::new(), table: table.into() })
    }

    /// A connection from this source; none if it has too many.
    pub(crate) fn enter(self: &Arc<Self>, source: IpAddr) -> Option<Guest> {
        let (number, now) = (self.key.hash_one(source), Instant::now());
        let mut table = self.table.lock().expect("no panic under the lock");
        if table.clients.len() > MANY && now.duration_since(table.swept) >= SWEEP {
            table.swept = now;
            table.clients.retain(|_, client| {
                client.open > 0 || client.refused > 0 && now - client.window < WINDOW
            });
        }
        let client =
            table.clients.entry(number).or_insert(Client { open: 0, refused: 0, window: now });
        if client.open >= self.budget.connections {
            return None;
        }
        client.open += 1;
        drop(table);
        Some(Guest { clients: self.clone(), number })
    }
}

impl Guest {
    /// Notes that one of its requests was refused.
    pub(crate) fn was_refused(&self) {
        self.with(|client| client.refused = client.refused.saturating_add(1));
    }

    /// How long it has to wait, if it was refused too often.
    pub(crate) fn must_wait(&self) -> Option<Duration> {
        let max = self.clients.budget.refusals;
        self.with(|client| {
            let rest = WINDOW.saturating_sub(client.window.elapsed());
            (client.refused >= max).then_some(rest)
        })
        .flatten()
    }

    fn with<T>(&self, work: impl FnOnce(&mut Client) -> T) -> Option<T> {
        let mut table = self.clients.table.lock().expect("no panic under the lock");
        let client = table.clients.get_mut(&self.number)?;
        client.roll(Instant::now());
        Some(work(client))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut table = self.clients.table.lock().expect("no panic under the lock");
        if let Some(client) = table.clients.get_mut(&self.number) {
            client.open -= 1;
            client.roll(Instant::now());
            if client.open == 0 && client.refused == 0 {
                table.clients.remove(&self.number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_budget() {
        let clients = Clients::new(Budget { connections: 2, refusals: 3 });
        let [a, b] = ["::1", "::2"].map(|address| address.parse().unwrap());
        let first = clients.enter(a).unwrap();
        let second = clients.enter(a).unwrap();
        assert!(clients.enter(a).is_none());
        assert!(clients.enter(b).is_some());
        drop(second);
        let second = clients.enter(a).unwrap();
        for _ in 0..3 {
            assert!(second.must_wait().is_none());
            first.was_refused();
        }
        assert!(second.must_wait().unwrap() <= WINDOW);
        drop((first, second));
        assert!(
            clients.enter(a).unwrap().must_wait().is_some(),
            "another connection is no way out"
        );
        assert_eq!(clients.table.lock().unwrap().clients.len(), 1, "b is forgotten");
    }
}
