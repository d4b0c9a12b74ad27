//! The blocks that a node holds, by offset: those that arrived, those that its consumer has used, and those
//! that may go.

use std::collections::VecDeque;

use super::RelayError;
use crate::ids::StreamOffset;
use crate::limits::{MAX_BLOCK, MIN_WINDOW_BLOCKS};

#[derive(Debug, Clone, Copy)]
struct Held {
    offset: StreamOffset,
    length: u32,
    consumed: bool,
}

#[derive(Debug)]
pub(super) struct Window {
    blocks: VecDeque<Held>,
    bytes: u64,
    capacity: u64,
    received: StreamOffset,
    consumed: StreamOffset,
    retained_from: StreamOffset,
    ended: bool,
}

impl Window {
    pub(super) fn new(capacity: u64, start: StreamOffset) -> Self {
        let least = (MIN_WINDOW_BLOCKS * MAX_BLOCK) as u64;
        Self {
            blocks: VecDeque::new(),
            bytes: 0,
            capacity: capacity.max(least),
            received: start,
            consumed: start,
            retained_from: start,
            ended: false,
        }
    }

    /// True if nothing has arrived and nothing went. Then it may as well begin at another offset.
    pub(super) fn is_untouched(&self) -> bool {
        self.blocks.is_empty() && self.received == self.retained_from && !self.ended
    }

    /// True if there is room for the largest block, because a block's size is not known before it is read.
    pub(super) fn has_room(&self) -> bool {
        !self.ended && self.bytes + MAX_BLOCK as u64 <= self.capacity
    }

    pub(super) fn push(&mut self, offset: StreamOffset, length: u32) -> Result<(), RelayError> {
        if offset != self.received {
            return Err(RelayError::WrongOffset {
                got: offset,
                expected: self.received,
            });
        }
        if !self.has_room() || length as usize > MAX_BLOCK {
            return Err(RelayError::Unasked(offset));
        }
        self.blocks.push_back(Held {
            offset,
            length,
            consumed: false,
        });
        self.bytes += u64::from(length);
        self.received = offset.plus(u64::from(length));
        Ok(())
    }

    pub(super) fn end(&mut self, offset: StreamOffset) -> Result<(), RelayError> {
        if offset != self.received {
            return Err(RelayError::WrongOffset {
                got: offset,
                expected: self.received,
            });
        }
        self.ended = true;
        Ok(())
    }

    /// Marks one block as used. The prefix of used blocks grows as far as it can.
    pub(super) fn consume(&mut self, offset: StreamOffset) {
        let Ok(index) = self.index_of(offset) else { return };
        self.blocks[index].consumed = true;
        let Ok(mut next) = self.index_of(self.consumed) else {
            return;
        };
        while let Some(block) = self.blocks.get(next).filter(|block| block.consumed) {
            self.consumed = block.offset.plus(u64::from(block.length));
            next += 1;
        }
    }

    pub(super) fn consume_all(&mut self) {
        self.consumed = self.received;
    }

    /// Drops whole blocks that end at or before `below`. Returns the new begin of the window, if it changed.
    pub(super) fn release(&mut self, below: StreamOffset) -> Option<StreamOffset> {
        let before = self.retained_from;
        while let Some(block) = self.blocks.front() {
            let end = block.offset.plus(u64::from(block.length));
            if end > below {
                break;
            }
            self.bytes -= u64::from(block.length);
            self.retained_from = end;
            self.blocks.pop_front();
        }
        (self.retained_from != before).then_some(self.retained_from)
    }

    /// Returns the length of the block that begins at `offset`.
    pub(super) fn length_at(&self, offset: StreamOffset) -> Option<u32> {
        self.index_of(offset).ok().map(|index| self.blocks[index].length)
    }

    /// Returns true if a block begins at `offset`, or would be the next to arrive there.
    pub(super) fn is_boundary(&self, offset: StreamOffset) -> bool {
        offset == self.received || self.index_of(offset).is_ok()
    }

    /// Returns the index of the block at `offset`. The oldest and the newest block are requested most.
    fn index_of(&self, offset: StreamOffset) -> Result<usize, usize> {
        let ends = [0, self.blocks.len().saturating_sub(1)];
        let is_there = |index: &usize| {
            self.blocks
                .get(*index)
                .is_some_and(|block| block.offset == offset)
        };
        if let Some(index) = ends.into_iter().find(is_there) {
            return Ok(index);
        }
        self.blocks.binary_search_by_key(&offset, |block| block.offset)
    }

    pub(super) const fn received(&self) -> StreamOffset {
        self.received
    }

    pub(super) const fn consumed(&self) -> StreamOffset {
        self.consumed
    }

    pub(super) const fn retained_from(&self) -> StreamOffset {
        self.retained_from
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// True if three quarters are taken. Data that is held back on purpose must go on before more can come.
    pub(super) const fn is_filling(&self) -> bool {
        self.bytes >= self.capacity / 4 * 3
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }
}
