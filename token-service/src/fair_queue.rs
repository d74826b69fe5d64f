//! Whose turn it is. A request is served when its number of arrival plus its tokens is the lowest
//! of those that wait. So small requests pass large ones, and a request of `n` tokens lets fewer
//! than `n` later ones pass: neither starves the other.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard};

/// A place in the queue. A request keeps it on its second pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn {
    /// Number and tokens together; the lowest is next, of equals the one that came first.
    due: u64,
    number: u64,
}

/// What waits for worker threads. It has no bound of its own: whoever puts something in must have
/// been admitted.
pub(crate) struct FairQueue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
    workers: usize,
    max_work: usize,
}

struct State<T> {
    /// With the work that each of them is.
    waiting: BTreeMap<Turn, (usize, T)>,
    arrivals: u64,
    closed: bool,
}

impl<T> FairQueue<T> {
    /// A queue for so many workers, each of which takes one request, or several that together
    /// are at most so much work.
    pub(crate) fn new(workers: usize, max_work: usize) -> Self {
        let state = State { waiting: BTreeMap::new(), arrivals: 0, closed: false };
        Self { state: Mutex::new(state), filled: Condvar::new(), workers, max_work }
    }

    /// The place of a request that arrives now.
    pub(crate) fn arrive(&self, tokens: usize) -> Turn {
        let mut state = self.lock();
        let number = state.arrivals;
        state.arrivals += 1;
        Turn { due: number + tokens as u64, number }
    }

    /// Puts a request in at its place; drops it if the queue is closed.
    pub(crate) fn push(&self, turn: Turn, work: usize, request: T) {
        let mut state = self.lock();
        if !state.closed {
            state.waiting.insert(turn, (work, request));
            self.filled.notify_one();
        }
    }

    /// Waits for requests, and takes those whose turn it is: one, or several small ones, but no
    /// more than this worker's share of what waits. Nothing if the queue is closed and empty.
    pub(crate) fn take(&self) -> Vec<T> {
        let nothing = |state: &mut State<T>| state.waiting.is_empty() && !state.closed;
        let mut state =
            self.filled.wait_while(self.lock(), nothing).expect("no panic under the lock");
        let share = state.waiting.len().div_ceil(self.workers);
        let (mut taken, mut sum) = (Vec::new(), 0);
        while taken.len() < share
            && let Some(next) = state.waiting.first_entry()
        {
            sum += next.get().0;
            if sum > self.max_work && !taken.is_empty() {
                break;
            }
            taken.push(next.remove().1);
        }
        taken
    }

    /// Lets the workers end once nothing waits.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("no panic under the lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(workers: usize) -> FairQueue<&'static str> {
        FairQueue::new(workers, 64)
    }

    /// A request of so many tokens, each of them one piece of work.
    fn arrive<T>(queue: &FairQueue<T>, tokens: usize, request: T) {
        queue.push(queue.arrive(tokens), tokens, request);
    }

    /// What is taken one after the other from now on, by one worker.
    fn drain<T>(queue: &FairQueue<T>) -> Vec<Vec<T>> {
        queue.close();
        std::iter::from_fn(|| Some(queue.take()).filter(|taken| !taken.is_empty())).collect()
    }

    #[test]
    fn small_requests_pass_large_ones_that_keep_their_order() {
        let queue = queue(1);
        for (tokens, name) in
            [(512, "512 a"), (512, "512 b"), (256, "256"), (512, "512 c"), (1, "1"), (64, "64")]
        {
            arrive(&queue, tokens, name);
        }
        let order = drain(&queue).concat();
        assert_eq!(order, ["1", "64", "256", "512 a", "512 b", "512 c"]);
    }

    #[test]
    fn of_equal_requests_the_first_is_first() {
        let queue = queue(1);
        // Due 5, 5 and 5.
        for (tokens, name) in [(5, "first"), (4, "second"), (3, "third")] {
            arrive(&queue, tokens, name);
        }
        assert_eq!(drain(&queue).concat(), ["first", "second", "third"]);
    }

    #[test]
    fn an_endless_stream_of_small_requests_does_not_starve_a_large_one() {
        let queue = FairQueue::new(1, 1);
        arrive(&queue, 512, 512);
        // There is always a small one that waits as well.
        arrive(&queue, 1, 1);
        let mut passed = 0;
        while queue.take() != [512] {
            passed += 1;
            arrive(&queue, 1, 1);
            assert!(passed < 512, "the large one is still not served");
        }
        assert_eq!(passed, 510);
    }

    #[test]
    fn an_endless_stream_of_large_requests_does_not_hold_a_small_one_up() {
        let queue = FairQueue::new(1, 64);
        for _ in 0..200 {
            arrive(&queue, 512, 512);
        }
        for _ in 0..1000 {
            arrive(&queue, 1, 1);
            assert_eq!(queue.take(), [1]);
            arrive(&queue, 512, 512);
            assert_eq!(queue.take(), [512]);
        }
    }

    #[test]
    fn the_second_pass_keeps_its_turn() {
        let queue = queue(1);
        let first = queue.arrive(10);
        queue.push(first, 1, "first: decode");
        arrive(&queue, 10, "second: decode");
        assert_eq!(queue.take(), ["first: decode", "second: decode"]);
        arrive(&queue, 10, "third: decode");
        queue.push(first, 10, "first: evaluate");
        assert_eq!(drain(&queue).concat(), ["first: evaluate", "third: decode"]);
    }

    #[test]
    fn small_requests_are_taken_together_up_to_the_limit() {
        let queue = FairQueue::new(1, 64);
        for tokens in [16, 16, 16, 16, 16, 512, 1] {
            arrive(&queue, tokens, tokens);
        }
        assert_eq!(drain(&queue), [vec![1, 16, 16, 16], vec![16, 16], vec![512]]);
    }

    #[test]
    fn a_step_that_is_little_work_is_taken_for_more_of_them() {
        let queue = FairQueue::new(1, 64);
        for name in ["a", "b", "c"] {
            queue.push(queue.arrive(256), 32, name);
        }
        assert_eq!(drain(&queue), [vec!["a", "b"], vec!["c"]]);
    }

    #[test]
    fn a_worker_takes_no_more_than_its_share() {
        let queue = FairQueue::new(2, 64);
        for number in 0..8 {
            arrive(&queue, 1, number);
        }
        assert_eq!(drain(&queue), [vec![0, 1, 2, 3], vec![4, 5], vec![6], vec![7]]);
    }

    #[test]
    fn a_closed_queue_takes_nothing_more() {
        let queue = queue(1);
        arrive(&queue, 1, "before");
        queue.close();
        arrive(&queue, 1, "after");
        assert_eq!(queue.take(), ["before"]);
        assert!(queue.take().is_empty());
    }

    #[test]
    fn a_waiting_worker_wakes() {
        let queue = queue(1);
        std::thread::scope(|threads| {
            let worker = threads.spawn(|| (queue.take(), queue.take()));
            arrive(&queue, 1, "work");
            queue.close();
            // Whether it waited before or came later: it gets the work, then the end.
            assert_eq!(worker.join().unwrap(), (vec!["work"], vec![]));
        });
    }
}
