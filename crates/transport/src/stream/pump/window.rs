//! The window: blocks kept here until every node that may still ask for them has them.

use std::collections::VecDeque;
use std::sync::Arc;

use ka_proto::StreamOffset;

use crate::stream::buffer::SealedBlock;

/// Retained blocks in order, the end block, and the memory that they hold.
///
/// The relay machine counts payload bytes; the window counts what blocks really cost, so that a window of
/// tiny blocks is bounded too.
#[derive(Debug)]
pub(super) struct Window {
    blocks: VecDeque<Arc<SealedBlock>>,
    end: Option<Arc<SealedBlock>>,
    /// By [`SealedBlock::cost`].
    held: usize,
    capacity: usize,
}

impl Window {
    /// Returns an empty window of so many bytes of memory.
    pub(super) const fn new(capacity: usize) -> Self {
        Self {
            blocks: VecDeque::new(),
            end: None,
            held: 0,
            capacity,
        }
    }

    /// Returns the most bytes of memory that it holds.
    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// True when one more block may come. An empty window takes one of any size.
    pub(super) fn has_room(&self) -> bool {
        self.held < self.capacity || self.blocks.is_empty()
    }

    /// Returns the bytes of memory that are free.
    pub(super) const fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.held) as u64
    }

    /// Returns the block that came last, if it is still here.
    pub(super) fn newest(&self) -> Option<&Arc<SealedBlock>> {
        self.blocks.back()
    }

    /// Retains the next block of the stream.
    pub(super) fn push(&mut self, block: Arc<SealedBlock>) {
        self.held += block.cost();
        self.blocks.push_back(block);
    }

    /// Keeps the end block of the stream.
    pub(super) fn set_end(&mut self, end: Arc<SealedBlock>) {
        self.end = Some(end);
    }

    /// Returns the end block, once it is here.
    pub(super) const fn end(&self) -> Option<&Arc<SealedBlock>> {
        self.end.as_ref()
    }

    /// Returns the block that begins at `offset`. Nearly always the newest is asked for: then no older one,
    /// cold in the cache by now, is looked at.
    pub(super) fn block_at(&self, offset: StreamOffset) -> Option<&Arc<SealedBlock>> {
        if let Some(newest) = self.blocks.back().filter(|newest| newest.offset <= offset.0) {
            return Some(newest);
        }
        let index = self.blocks.partition_point(|block| block.offset < offset.0);
        self.blocks.get(index)
    }

    /// Drops every block that ends at or before `below`. Returns the memory that they held, in bytes.
    pub(super) fn release(&mut self, below: StreamOffset) -> usize {
        let before = self.held;
        while let Some(block) = self.blocks.front().filter(|block| block.end() <= below.0) {
            self.held -= block.cost();
            self.blocks.pop_front();
        }
        before - self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::buffer::tests_block as block;

    fn offset_at(window: &Window, offset: u64) -> Option<u64> {
        window.block_at(StreamOffset(offset)).map(|block| block.offset)
    }

    #[test]
    fn blocks_are_found_by_their_first_byte_until_they_are_released() {
        let mut window = Window::new(1 << 20);
        assert_eq!(offset_at(&window, 0), None);
        (0..4).for_each(|number| window.push(block(number * 10, 10)));
        assert_eq!(
            [0, 10, 20, 30].map(|at| offset_at(&window, at)),
            [0, 10, 20, 30].map(Some)
        );
        assert_eq!(
            window.release(StreamOffset(9)),
            0,
            "the first block is not through yet"
        );
        assert_eq!(window.release(StreamOffset(25)), 2 * block(0, 10).cost());
        assert_eq!([20, 30].map(|at| offset_at(&window, at)), [20, 30].map(Some));
    }

    #[test]
    fn tiny_blocks_fill_a_window_by_what_they_cost() {
        let cost = block(0, 1).cost();
        let mut window = Window::new(3 * cost);
        let mut count = 0;
        while window.has_room() {
            window.push(block(count, 1));
            count += 1;
        }
        assert_eq!(count, 3);
        window.release(StreamOffset(1));
        assert!(window.has_room());
    }

    #[test]
    fn an_empty_window_takes_a_block_of_any_size() {
        let mut window = Window::new(1);
        assert!(window.has_room());
        window.push(block(0, 1 << 20));
        assert!(!window.has_room());
        window.release(StreamOffset(1 << 20));
        assert!(window.has_room());
    }
}
