//! Messages in blocks and pages, in the bytes that readers get.

use bytes::{BufMut, Bytes, BytesMut};

/// Before each cell stands its sequence, a `u64`.
pub(super) const SEQUENCE_BYTES: usize = 8;
/// Bytes of a block, and of a page of several blocks, unless one message has more. A reader
/// holds one page.
pub(super) const BLOCK_BYTES: usize = 256 * 1024;

/// Consecutive messages as they go over the wire: for each its sequence, then the cell.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) first: u64,
    pub(super) frames: Bytes,
}

impl Block {
    /// Of cells that stand one after the other, as PostgreSQL keeps them.
    pub(super) fn of_cells(first: u64, cells: &[u8], cell_bytes: usize) -> Self {
        let messages = cells.len() / cell_bytes;
        let mut frames = BytesMut::with_capacity(messages * (SEQUENCE_BYTES + cell_bytes));
        for (seq, cell) in (first..).zip(cells.chunks_exact(cell_bytes)) {
            frames.put_u64(seq);
            frames.put_slice(cell);
        }
        Self { first, frames: frames.freeze() }
    }

    /// The sequence after its last message.
    pub(super) fn end(&self, frame_bytes: usize) -> u64 {
        self.first + (self.frames.len() / frame_bytes) as u64
    }
}

/// A run of messages as they go over the wire: for each its sequence (`u64`), then the cell.
#[derive(Debug)]
pub struct ReadPage {
    /// The wire bytes.
    pub bytes: Bytes,
    /// Messages in it.
    pub messages: u64,
    /// The last sequence in it.
    pub last: u64,
}

impl ReadPage {
    /// At most `limit` of the messages after `after`. The first of the blocks ends after `after`; they
    /// count as far as they are consecutive: what lies between others is sealed. Cells have one size, so a cut is arithmetic; one block is not copied.
    pub(super) fn cut(
        blocks: &[Block],
        after: u64,
        limit: u64,
        frame_bytes: usize,
    ) -> Option<Self> {
        let first = blocks.first()?.first;
        let follows = |two: &&[Block]| two[0].end(frame_bytes) == two[1].first;
        let blocks = &blocks[..=blocks.windows(2).take_while(follows).count()];
        let bytes = match blocks {
            [one] => one.frames.clone(),
            several => {
                let len = several.iter().map(|block| block.frames.len()).sum();
                let mut bytes = BytesMut::with_capacity(len);
                several.iter().for_each(|block| bytes.put_slice(&block.frames));
                bytes.freeze()
            }
        };
        let there = (bytes.len() / frame_bytes) as u64;
        let skip = (after + 1).saturating_sub(first);
        let messages = there.saturating_sub(skip).min(limit);
        let at = |message: u64| message as usize * frame_bytes;
        let page = Self {
            bytes: bytes.slice(at(skip.min(there))..at(skip.min(there) + messages)),
            messages,
            last: first + skip + messages - 1,
        };
        (messages > 0).then_some(page)
    }
}

/// The most messages that fit in a block.
pub(crate) fn block_messages(frame_bytes: usize) -> usize {
    (BLOCK_BYTES / frame_bytes).max(1)
}
