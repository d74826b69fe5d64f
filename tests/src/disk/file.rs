//! The bytes of one file: what the page cache shows, and what is on the medium.

use std::collections::BTreeSet;

/// Bytes of a page of the page cache.
pub(super) const PAGE: usize = 4096;

/// A change that has not been synced.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// These bytes at this offset.
    Write(usize, Vec<u8>),
    /// A truncation to this size, or zeros up to it.
    Size(usize),
}

impl Change {
    /// Makes the change in `bytes`.
    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => {
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(data);
            }
            Self::Size(size) => bytes.resize(*size, 0),
        }
    }
}

/// A regular file.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    /// Content as readers see it.
    pub(super) cached: Vec<u8>,
    /// Content that survives every cut.
    pub(super) durable: Vec<u8>,
    /// Changes since the last sync, in order.
    pub(super) changes: Vec<Change>,
    /// Pages that a failed sync left clean: they are never written unless they are dirtied again.
    lost: BTreeSet<usize>,
}

impl File {
    /// A file that is wholly durable.
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        Self { cached: bytes.clone(), durable: bytes, ..Self::default() }
    }

    /// Writes into the page cache.
    pub(super) fn write(&mut self, offset: usize, data: &[u8]) {
        Change::Write(offset, data.to_vec()).apply(&mut self.cached);
        let (mut start, mut end) = (offset, offset + data.len());
        let pages = start / PAGE..end.div_ceil(PAGE);
        if pages.clone().any(|page| self.lost.contains(&page)) {
            // Dirty again: the whole page is written out, with what was lost in it.
            (start, end) = (pages.start * PAGE, (pages.end * PAGE).min(self.cached.len()));
            self.lost.retain(|page| !pages.contains(page));
        }
        self.changes.push(Change::Write(start, self.cached[start..end].to_vec()));
    }

    /// Truncates, or appends zeros.
    pub(super) fn set_size(&mut self, size: usize) {
        self.cached.resize(size, 0);
        self.lost.retain(|page| page * PAGE < size);
        self.changes.push(Change::Size(size));
    }

    /// Whether the size on the medium is another one.
    pub(super) fn has_new_size(&self) -> bool {
        self.cached.len() != self.durable.len()
    }

    /// A sync that succeeds.
    pub(super) fn sync(&mut self) {
        for change in self.changes.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync that fails, as on ext4 and XFS: the error is reported once, and the pages are clean.
    pub(super) fn fail_sync(&mut self) {
        for change in self.changes.drain(..) {
            match &change {
                Change::Write(offset, data) => {
                    self.lost.extend(offset / PAGE..(offset + data.len()).div_ceil(PAGE));
                }
                Change::Size(_) => change.apply(&mut self.durable),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_a_failed_sync_left_clean_is_written_only_when_it_is_dirtied_again() {
        let mut file = File::durable(vec![0; 2 * PAGE]);
        file.write(10, b"one");
        file.write(PAGE + 10, b"two");
        file.fail_sync();
        file.sync();
        assert_eq!(file.durable, vec![0; 2 * PAGE]);
        assert_eq!(&file.cached[10..13], b"one");
        file.write(20, b"three");
        file.sync();
        assert_eq!(&file.durable[10..13], b"one");
        assert_eq!(&file.durable[20..25], b"three");
        assert_eq!(&file.durable[PAGE + 10..PAGE + 13], &[0; 3], "the other page stays lost");
    }
}
