//! The stream's end at this machine: the producer at the head of the chain or of a branch, the consumer on a
//! node.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ka_proto::StreamOffset;

use crate::stream::buffer::SealedBlock;
use crate::stream::handle::{DeliveryQueue, ProductionQueue, PumpHandle};
use crate::stream::spool::{Branch, SpoolWriter};

/// Blocks are handed to the consumer this many bytes at a time, or after [`DELIVERY_DELAY`]: waking its
/// thread costs more than a small block's worth of work. The chain does not wait for it.
const DELIVERY_BYTES: u64 = 1 << 20;
const DELIVERY_DELAY: Duration = Duration::from_millis(100);

/// The party that makes or uses the stream here.
#[derive(Debug)]
pub(super) enum LocalEnd {
    Producer(Production),
    Consumer(Delivery),
}

impl LocalEnd {
    pub(super) const fn is_producer(&self) -> bool {
        matches!(self, Self::Producer(_))
    }
}

/// Blocks from the producer that are not in the window yet.
#[derive(Debug)]
pub(super) struct Production {
    taken: VecDeque<Arc<SealedBlock>>,
    /// The producer has sent everything.
    is_done: bool,
    keeper: Option<SpoolWriter>,
    branch: Option<Branch>,
}

impl Production {
    /// Copies go to `keeper`; a head of a branch is fed from `branch`.
    pub(super) const fn new(keeper: Option<SpoolWriter>, branch: Option<Branch>) -> Self {
        Self {
            taken: VecDeque::new(),
            is_done: false,
            keeper,
            branch,
        }
    }

    /// Returns the next block, if there is one; `budget` bytes are taken from the queue at once.
    pub(super) fn next(&mut self, queue: &ProductionQueue, budget: usize) -> Option<Arc<SealedBlock>> {
        if self.taken.is_empty() {
            queue.take(&mut self.taken, budget);
        }
        self.taken.pop_front()
    }

    /// Records that the producer has sent everything. The queued blocks are the rest.
    pub(super) const fn finish(&mut self) {
        self.is_done = true;
    }

    /// True when the last block has been taken.
    pub(super) fn is_exhausted(&self, queue: &ProductionQueue) -> bool {
        self.is_done && self.taken.is_empty() && queue.is_empty()
    }

    /// Spools a block, if the stream is spooled.
    pub(super) fn keep(&self, block: &Arc<SealedBlock>) {
        if let Some(keeper) = &self.keeper {
            keeper.keep(block);
        }
    }

    /// Spools the end block, and nothing after it.
    pub(super) fn keep_end(&mut self, end: &Arc<SealedBlock>) {
        self.keep(end);
        self.keeper = None;
    }

    /// The first successor of a branch has said where it goes on: the branch's producer starts there.
    pub(super) fn begin_branch(&mut self, from: StreamOffset, pump: &Arc<PumpHandle>, window_bytes: usize) {
        if let Some(branch) = self.branch.take() {
            branch.feed(from.0, pump, window_bytes);
        }
    }
}

/// Blocks on their way to the consumer, and blocks that it has not used up.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// Not yet known to the machine as consumed, in order.
    unconsumed: VecDeque<Arc<SealedBlock>>,
    /// Verified and not yet handed over: the last of `unconsumed`.
    fresh: Vec<Arc<SealedBlock>>,
    /// The time at which the first of them came.
    fresh_since: Option<Duration>,
}

impl Delivery {
    /// Takes a verified block at `now`.
    pub(super) fn push(&mut self, block: Arc<SealedBlock>, now: Duration) {
        self.fresh_since.get_or_insert(now);
        self.fresh.push(Arc::clone(&block));
        self.unconsumed.push_back(block);
    }

    /// Returns the time at which the arrived blocks are handed over, however few they are.
    pub(super) fn due_at(&self) -> Option<Duration> {
        self.fresh_since.map(|since| since + DELIVERY_DELAY)
    }

    /// Hands over the arrived blocks, if they are enough or have waited long enough.
    pub(super) fn hand_over_if_due(&mut self, queue: &DeliveryQueue, now: Duration) {
        if self.fresh_bytes() >= DELIVERY_BYTES || self.due_at().is_some_and(|at| now >= at) {
            self.hand_over(queue);
        }
    }

    /// Hands over the arrived blocks.
    pub(super) fn hand_over(&mut self, queue: &DeliveryQueue) {
        self.fresh_since = None;
        queue.deliver(&mut self.fresh);
    }

    /// Returns the next block in order that the consumer is done with.
    pub(super) fn next_consumed(&mut self) -> Option<StreamOffset> {
        let offset = self
            .unconsumed
            .front()
            .filter(|block| block.is_consumed())?
            .offset;
        self.unconsumed.pop_front();
        Some(StreamOffset(offset))
    }

    /// Returns the end of the last block that the consumer is not known to be done with.
    pub(super) fn unconsumed_until(&self) -> Option<u64> {
        self.unconsumed.back().map(|block| block.end())
    }

    /// In blocks of one stream, bytes are a difference of offsets.
    fn fresh_bytes(&self) -> u64 {
        self.fresh.last().map_or(0, |last| last.end()) - self.fresh.first().map_or(0, |first| first.offset)
    }
}

#[cfg(test)]
mod tests {
    use ka_proto::StreamName;

    use super::*;
    use crate::stream::buffer::{Pool, tests_block as block};

    const SMALL: u64 = 1000;

    fn handle() -> Arc<PumpHandle> {
        PumpHandle::new(StreamName::new("s").unwrap(), Pool::new(0)).unwrap()
    }

    #[test]
    fn small_blocks_are_handed_over_together_after_a_while() {
        let (mut delivery, handle) = (Delivery::default(), handle());
        let begun = Duration::from_secs(7);
        for number in 0..3 {
            delivery.push(
                block(number * SMALL, 1000),
                begun + Duration::from_millis(number * 40),
            );
        }
        let queued = |handle: &PumpHandle| handle.delivery().consumed() < 3000 && !handle.has_ended();
        delivery.hand_over_if_due(handle.delivery(), begun + Duration::from_millis(99));
        assert_eq!(delivery.fresh.len(), 3);
        assert_eq!(delivery.due_at(), Some(begun + DELIVERY_DELAY));
        delivery.hand_over_if_due(handle.delivery(), begun + DELIVERY_DELAY);
        assert!(delivery.fresh.is_empty() && delivery.due_at().is_none() && queued(&handle));
        let mut received = VecDeque::new();
        handle.delivery().receive(&mut received).unwrap();
        assert_eq!(received.len(), 3);
    }

    #[test]
    fn a_mebibyte_is_handed_over_at_once() {
        let (mut delivery, handle) = (Delivery::default(), handle());
        delivery.push(block(0, 1 << 19), Duration::ZERO);
        delivery.hand_over_if_due(handle.delivery(), Duration::ZERO);
        assert_eq!(delivery.fresh.len(), 1);
        delivery.push(block(1 << 19, 1 << 19), Duration::ZERO);
        delivery.hand_over_if_due(handle.delivery(), Duration::ZERO);
        assert!(delivery.fresh.is_empty());
    }

    #[test]
    fn consumed_blocks_are_told_in_the_order_of_the_stream() {
        let (mut delivery, handle) = (Delivery::default(), handle());
        let blocks = [block(0, 10), block(10, 10)];
        for block in &blocks {
            delivery.push(Arc::clone(block), Duration::ZERO);
        }
        delivery.hand_over(handle.delivery());
        handle.delivery().consume(&blocks[1]);
        assert_eq!(delivery.next_consumed(), None);
        handle.delivery().consume(&blocks[0]);
        assert_eq!(delivery.next_consumed(), Some(StreamOffset(0)));
        assert_eq!(delivery.unconsumed_until(), Some(20));
        assert_eq!(delivery.next_consumed(), Some(StreamOffset(10)));
        assert_eq!(delivery.unconsumed_until(), None);
    }

    #[test]
    fn production_is_exhausted_when_the_producer_is_done_and_nothing_is_queued() {
        let (mut production, handle) = (Production::new(None, None), handle());
        let queue = handle.production();
        (0..3).for_each(|number| queue.push(block(number * 10, 10), 1 << 20).unwrap());
        assert_eq!(production.next(queue, usize::MAX).unwrap().offset, 0);
        production.finish();
        assert!(
            queue.is_empty() && !production.is_exhausted(queue),
            "two are taken and not yet used"
        );
        while production.next(queue, 1).is_some() {}
        assert!(production.is_exhausted(queue));
    }
}
