//! Follows a stream of cells without keeping any: counts them, and sees that none is missing.

use tocyn_protocol::relay::STREAM_HEADER_BYTES;

/// The place in a stream.
pub(crate) struct Frames {
    frame_bytes: usize,
    /// Bytes of the current frame that have come.
    offset: usize,
    head: [u8; STREAM_HEADER_BYTES],
    /// The last sequence that has come whole.
    last: u64,
}

impl Frames {
    /// A stream of cells of this size that starts after a sequence.
    pub(crate) fn new(cell_bytes: usize, after: u64) -> Self {
        let frame_bytes = STREAM_HEADER_BYTES + cell_bytes;
        Self { frame_bytes, offset: 0, head: [0; STREAM_HEADER_BYTES], last: after }
    }

    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Whether the stream may end here.
    pub(crate) fn is_whole(&self) -> bool {
        self.offset == 0
    }

    /// Takes the next bytes, however they are cut.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let end =
                if self.offset < self.head.len() { self.head.len() } else { self.frame_bytes };
            let (now, later) = bytes.split_at(bytes.len().min(end - self.offset));
            if end == self.head.len() {
                self.head[self.offset..self.offset + now.len()].copy_from_slice(now);
            }
            self.offset += now.len();
            bytes = later;
            if self.offset == self.frame_bytes {
                let (got, due) = (u64::from_be_bytes(self.head), self.last + 1);
                if got != due {
                    return Err(format!("the relay sent message {got} where {due} was due"));
                }
                (self.last, self.offset) = (due, 0);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(sequences: &[u64]) -> Vec<u8> {
        let frame = |seq: &u64| [&seq.to_be_bytes()[..], &[0xff; 100]].concat();
        sequences.iter().flat_map(frame).collect()
    }

    #[test]
    fn a_dense_stream_passes_however_it_is_cut() {
        let bytes = stream(&[8, 9, 10]);
        for step in [1, 7, 108, 109, 1000] {
            let mut frames = Frames::new(100, 7);
            bytes.chunks(step).for_each(|part| frames.push(part).unwrap());
            assert_eq!((frames.last(), frames.is_whole()), (10, true), "{step}");
        }
        let mut frames = Frames::new(100, 7);
        frames.push(&bytes[..150]).unwrap();
        assert_eq!((frames.last(), frames.is_whole()), (8, false));
    }

    #[test]
    fn gaps_and_repeats_are_errors() {
        for sequences in [&[9][..], &[8, 10], &[8, 8], &[8, 7]] {
            assert!(Frames::new(100, 7).push(&stream(sequences)).is_err(), "{sequences:?}");
        }
    }
}
