//! The order in which messages are shown: no message before one that it answers to, whatever the
//! relay did with their order and their authors with their clocks.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::message::Id;

/// What the order depends on.
pub trait InTree {
    /// The message.
    fn id(&self) -> Id;
    /// Unix seconds. Of two messages of which neither answers to the other, the earlier is first.
    fn time(&self) -> u64;
    /// What it answers to.
    fn parents(&self) -> &[Id];
}

/// Puts messages in order. The same messages always get the same one.
pub fn in_order<T: InTree>(messages: Vec<T>) -> Vec<T> {
    let places: BTreeMap<Id, usize> =
        messages.iter().enumerate().map(|(place, message)| (message.id(), place)).collect();
    let mut children = vec![Vec::new(); messages.len()];
    let mut left: Vec<usize> = vec![0; messages.len()];
    for (place, message) in messages.iter().enumerate() {
        for parent in message.parents().iter().filter_map(|parent| places.get(parent)) {
            children[*parent].push(place);
            left[place] += 1;
        }
    }
    let key = |place: usize| Reverse((messages[place].time(), messages[place].id(), place));
    let mut ready: BinaryHeap<_> =
        (0..messages.len()).filter(|place| left[*place] == 0).map(key).collect();
    let mut order = Vec::with_capacity(messages.len());
    while let Some(Reverse((_, _, place))) = ready.pop() {
        order.push(place);
        for child in &children[place] {
            left[*child] -= 1;
            if left[*child] == 0 {
                ready.push(key(*child));
            }
        }
    }
    // An id is a hash of its parents' ids, so there are no circles.
    let mut messages: Vec<Option<T>> = messages.into_iter().map(Some).collect();
    order.into_iter().filter_map(|place| messages[place].take()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Test(u8, u64, Vec<Id>);

    impl InTree for Test {
        fn id(&self) -> Id {
            Id([self.0; 32])
        }
        fn time(&self) -> u64 {
            self.1
        }
        fn parents(&self) -> &[Id] {
            &self.2
        }
    }

    #[test]
    fn no_message_is_before_one_that_it_answers_to() {
        let test = |id, time, parents: &[u8]| {
            Test(id, time, parents.iter().map(|p| Id([*p; 32])).collect())
        };
        // 3 has a clock that is far behind; the parent 9 is missing.
        let messages = vec![
            test(4, 40, &[3, 9]),
            test(3, 1, &[2]),
            test(1, 10, &[]),
            test(2, 20, &[1]),
            test(5, 30, &[1]),
        ];
        let order: Vec<u8> = in_order(messages).iter().map(|message| message.0).collect();
        assert_eq!(order, [1, 2, 3, 5, 4]);
    }
}
