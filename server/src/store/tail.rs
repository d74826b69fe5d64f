//! The newest blocks in memory, shared by all readers, so that a thousand of them at the head
//! of the log do not each ask the database for each commit.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::page::Block;

/// Bytes that are kept, unless one block has more.
const TAIL_BYTES: usize = 4 * 1024 * 1024;

/// A copy of the end of the log: consecutive blocks. It may lag behind the database and may be
/// empty, but what is in it is true.
pub(super) struct Tail {
    blocks: Mutex<VecDeque<Block>>,
    frame_bytes: usize,
}

impl Tail {
    /// Nothing is known yet.
    pub(super) fn new(frame_bytes: usize) -> Self {
        Self { blocks: Mutex::default(), frame_bytes }
    }

    /// Takes the blocks of a commit that is durable.
    pub(super) fn push(&self, committed: &[Block]) {
        let mut blocks = self.blocks.lock().expect("no panic under the lock");
        for block in committed {
            // Whoever was to tell of the block before this one may have been cancelled.
            if blocks.back().is_some_and(|last| last.end(self.frame_bytes) != block.first) {
                blocks.clear();
            }
            blocks.push_back(block.clone());
        }
        let mut bytes: usize = blocks.iter().map(|block| block.frames.len()).sum();
        while bytes > TAIL_BYTES && blocks.len() > 1 {
            bytes -= blocks.pop_front().map_or(0, |block| block.frames.len());
        }
    }

    /// The blocks from the one that has the message after `after` on: as many as have `most`
    /// messages together beyond `after`, but one at least. None if that message is not here.
    pub(super) fn after(&self, after: u64, most: u64) -> Option<Vec<Block>> {
        let blocks = self.blocks.lock().expect("no panic under the lock");
        let next = after.checked_add(1)?;
        let index = blocks.partition_point(|block| block.first <= next).checked_sub(1)?;
        let fits = |block: &&Block| block.end(self.frame_bytes) - next <= most;
        let mut found = blocks.range(index..);
        let first = found.next().filter(|first| next < first.end(self.frame_bytes))?;
        Some(std::iter::once(first).chain(found.take_while(fits)).cloned().collect())
    }

    /// Whether `after` is its last message.
    pub(super) fn ends_at(&self, after: u64) -> bool {
        let blocks = self.blocks.lock().expect("no panic under the lock");
        blocks.back().is_some_and(|last| Some(last.end(self.frame_bytes)) == after.checked_add(1))
    }

    /// Forgets the blocks that end before the sequence `keep_from`.
    pub(super) fn trim(&self, keep_from: u64) {
        let mut blocks = self.blocks.lock().expect("no panic under the lock");
        blocks.retain(|block| block.end(self.frame_bytes) > keep_from);
    }
}
