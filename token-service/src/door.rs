//! Who is admitted: so many requests are evaluated or wait, no more. A quarter of the slots is kept
//! for small requests, so that a crowd of large ones does not shut them out.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests of up to so many tokens are small: some slots are kept for them, and a worker takes
/// several of them at once.
pub(crate) const SMALL_TOKENS: usize = 64;

/// The slots, and how many of them large requests may hold.
pub(crate) struct Door {
    slots: Arc<Semaphore>,
    large: Arc<Semaphore>,
    total: usize,
}

/// What an admitted request holds until it is answered.
pub(crate) type Slot = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

impl Door {
    pub(crate) fn new(slots: usize) -> Self {
        let large = Semaphore::new(slots - slots / 4);
        Self { slots: Arc::new(Semaphore::new(slots)), large: Arc::new(large), total: slots }
    }

    /// Slots that are held now.
    pub(crate) fn taken(&self) -> usize {
        self.total - self.slots.available_permits()
    }

    /// A slot for a request of so many tokens. None if there is none: nobody waits for one.
    pub(crate) fn admit(&self, tokens: usize) -> Option<Slot> {
        let take = |of: &Arc<Semaphore>| of.clone().try_acquire_owned().ok();
        let large = if tokens > SMALL_TOKENS { Some(take(&self.large)?) } else { None };
        Some((take(&self.slots)?, large))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_requests_are_bounded_and_a_quarter_of_the_slots_is_for_small_ones() {
        let door = Door::new(8);
        let large: Vec<Slot> = (0..6).map(|_| door.admit(SMALL_TOKENS + 1).unwrap()).collect();
        assert!(door.admit(SMALL_TOKENS + 1).is_none());
        let small: Vec<Slot> = (0..2).map(|_| door.admit(SMALL_TOKENS).unwrap()).collect();
        assert!(door.admit(1).is_none());
        drop(large);
        let small_too: Vec<Slot> = (0..6).map(|_| door.admit(1).unwrap()).collect();
        assert!(door.admit(1).is_none());
        // A large one that found no slot holds none of those for large ones.
        assert!(door.admit(512).is_none());
        drop((small, small_too));
        let again: Vec<_> = (0..7).map(|_| door.admit(512)).collect();
        assert_eq!(again.iter().flatten().count(), 6);
        // A single slot is for everyone.
        assert!(Door::new(1).admit(512).is_some());
    }
}
