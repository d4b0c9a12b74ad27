//! The blocks in a host's window.

use std::collections::VecDeque;

use crate::ids::StreamOffset;

/// The blocks that an endpoint holds, in the order of the stream, and their bytes. The invariants ask for the
/// bytes after every event, so they are counted as blocks come and go.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// Offset, length and tag of each block.
    blocks: VecDeque<(StreamOffset, u32, u64)>,
    held: u64,
}

impl Ring {
    pub(super) const fn held(&self) -> u64 {
        self.held
    }

    /// Adds a block. One that comes again takes the place of the first.
    pub(super) fn insert(&mut self, offset: StreamOffset, length: u32, tag: u64) {
        let block = (offset, length, tag);
        self.held += u64::from(length);
        match self.find(offset) {
            Ok(index) => self.held -= u64::from(std::mem::replace(&mut self.blocks[index], block).1),
            Err(index) => self.blocks.insert(index, block),
        }
    }

    /// Returns the length and the tag of the block that begins here.
    pub(super) fn get(&self, offset: StreamOffset) -> Option<(u32, u64)> {
        let (_, length, tag) = self.blocks[self.find(offset).ok()?];
        Some((length, tag))
    }

    /// Drops all blocks that begin below this offset.
    pub(super) fn release(&mut self, below: StreamOffset) {
        while let Some((_, length, _)) = self.blocks.front().filter(|block| block.0 < below) {
            self.held -= u64::from(*length);
            self.blocks.pop_front();
        }
    }

    fn find(&self, offset: StreamOffset) -> Result<usize, usize> {
        self.blocks.binary_search_by_key(&offset, |block| block.0)
    }
}

#[test]
fn a_ring_knows_its_bytes_and_its_blocks() {
    let mut ring = Ring::default();
    for (offset, length) in [(0, 10), (10, 5), (15, 7), (10, 5)] {
        ring.insert(StreamOffset(offset), length, offset);
    }
    assert_eq!(ring.held(), 22);
    assert_eq!(ring.get(StreamOffset(10)), Some((5, 10)));
    ring.release(StreamOffset(15));
    assert_eq!((ring.held(), ring.get(StreamOffset(10))), (7, None));
    ring.release(StreamOffset(16));
    assert_eq!((ring.held(), ring.get(StreamOffset(15))), (0, None));
}
