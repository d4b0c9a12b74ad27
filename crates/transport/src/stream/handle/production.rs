//! The queue from the producer to the pump of the head.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::wake::WakeEvent;
use super::{Ended, lock};
use crate::stream::buffer::SealedBlock;

/// Bytes that the producer may be ahead of the head's socket: enough to ride out a pause of the producer,
/// little enough to stay in the cache.
const MAX_AHEAD: usize = 8 << 20;

/// Sealed blocks on their way to the head's pump.
///
/// The producer waits for room in [`ProductionQueue::push`]; [`ProductionQueue::take`],
/// [`ProductionQueue::release`] and [`ProductionQueue::end`] wake it. No other thread waits here: the pump
/// polls, and asks to be woken by [`ProductionQueue::announce_wait`].
#[derive(Debug)]
pub(in crate::stream) struct ProductionQueue {
    queue: Mutex<Queue>,
    room: Condvar,
    wake: Arc<WakeEvent>,
}

#[derive(Debug, Default)]
struct Queue {
    blocks: VecDeque<Arc<SealedBlock>>,
    /// Bytes of `blocks`, by [`SealedBlock::cost`].
    queued: usize,
    /// Bytes that the pump has taken and not yet released.
    taken: usize,
    window: usize,
    ended: Option<Ended>,
    pump_waits: bool,
    producer_waits: bool,
    /// Time for which the producer has had a block and no room for it, up to `blocked_since`.
    blocked: Duration,
    blocked_since: Option<Instant>,
}

impl Queue {
    /// One block always fits, or a block larger than the window would wait for ever.
    const fn has_room(&self, cost: usize) -> bool {
        let held = self.queued + self.taken;
        held == 0 || (self.queued + cost <= MAX_AHEAD && held + cost <= self.window)
    }

    /// Returns true if the producer must be woken, which is only for enough room.
    fn take_waiting_producer(&mut self) -> bool {
        let roomy = self.queued <= MAX_AHEAD / 2 && self.queued + self.taken <= self.window / 8 * 7;
        roomy && std::mem::take(&mut self.producer_waits)
    }
}

impl ProductionQueue {
    pub(super) fn new(wake: Arc<WakeEvent>) -> Self {
        Self {
            queue: Mutex::default(),
            room: Condvar::new(),
            wake,
        }
    }

    /// Waits until less than `window` bytes are held and 8 MiB unsent, then queues `block` and wakes the pump
    /// if it waits for one.
    pub(in crate::stream) fn push(&self, block: Arc<SealedBlock>, window: usize) -> Result<(), String> {
        let cost = block.cost();
        let mut queue = lock(&self.queue);
        queue.window = window;
        loop {
            if let Some(ended) = &queue.ended {
                return Err(match ended {
                    Ended::Failed(reason) => reason.clone(),
                    Ended::Complete => "the stream has ended".to_owned(),
                });
            }
            if queue.has_room(cost) {
                break;
            }
            queue.producer_waits = true;
            queue.blocked_since.get_or_insert_with(Instant::now);
            queue = self.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(since) = queue.blocked_since.take() {
            queue.blocked += since.elapsed();
        }
        queue.queued += cost;
        queue.blocks.push_back(block);
        let pump_waits = std::mem::take(&mut queue.pump_waits);
        drop(queue);
        if pump_waits {
            self.wake.wake();
        }
        Ok(())
    }

    /// Takes the producer's sealed blocks, until `budget` bytes are reached.
    pub(in crate::stream) fn take(&self, into: &mut VecDeque<Arc<SealedBlock>>, budget: usize) {
        let mut queue = lock(&self.queue);
        let mut taken = 0;
        while taken < budget
            && let Some(block) = queue.blocks.pop_front()
        {
            taken += block.cost();
            into.push_back(block);
        }
        queue.queued -= taken;
        queue.taken += taken;
        self.wake_producer(&mut queue);
    }

    /// True when nothing is left to take.
    pub(in crate::stream) fn is_empty(&self) -> bool {
        lock(&self.queue).blocks.is_empty()
    }

    /// Makes room for the producer: `cost` bytes are held no more.
    pub(in crate::stream) fn release(&self, cost: usize) {
        let mut queue = lock(&self.queue);
        queue.taken = queue.taken.saturating_sub(cost);
        self.wake_producer(&mut queue);
    }

    /// The next block is to wake the pump; true when there is none yet.
    pub(super) fn announce_wait(&self) -> bool {
        let mut queue = lock(&self.queue);
        queue.pump_waits = true;
        queue.blocks.is_empty()
    }

    /// Nothing more is taken. The first ending counts.
    pub(super) fn end(&self, ended: &Ended) {
        lock(&self.queue).ended.get_or_insert_with(|| ended.clone());
        self.room.notify_all();
    }

    /// Returns the time for which the producer has had a block and no room for it.
    pub(super) fn blocked(&self) -> Duration {
        let queue = lock(&self.queue);
        let open = queue
            .blocked_since
            .map_or(Duration::ZERO, |since| since.elapsed());
        queue.blocked + open
    }

    fn wake_producer(&self, queue: &mut Queue) {
        if queue.take_waiting_producer() {
            self.room.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::buffer::tests_block as block;

    const WINDOW: usize = 1 << 20;

    fn queue() -> (Arc<ProductionQueue>, Arc<WakeEvent>) {
        let wake = Arc::new(WakeEvent::new().unwrap());
        (Arc::new(ProductionQueue::new(Arc::clone(&wake))), wake)
    }

    fn taken(queue: &ProductionQueue, budget: usize) -> Vec<u64> {
        let mut blocks = VecDeque::new();
        queue.take(&mut blocks, budget);
        blocks.iter().map(|block| block.offset).collect()
    }

    #[test]
    fn a_pump_that_waits_is_woken_by_the_next_block_and_takes_within_its_budget() {
        let (queue, wake) = queue();
        assert!(queue.announce_wait());
        wake.announce_sleep();
        for number in 0..3 {
            queue.push(block(number * 10, 10), WINDOW).unwrap();
        }
        assert!(wake.was_written() && !queue.announce_wait());
        assert_eq!(taken(&queue, 1), [0]);
        assert_eq!(taken(&queue, usize::MAX), [10, 20]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_block_larger_than_the_window_passes_and_the_next_waits_for_its_release() {
        let (queue, _) = queue();
        queue.push(block(0, 100), 10).unwrap();
        assert_eq!(taken(&queue, 1), [0]);
        let producer = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || queue.push(block(100, 100), 10))
        };
        while lock(&queue.queue).blocked_since.is_none() {
            std::thread::yield_now();
        }
        assert!(queue.is_empty());
        queue.release(usize::MAX);
        producer.join().unwrap().unwrap();
        assert!(queue.blocked() > Duration::ZERO);
        assert_eq!(taken(&queue, 1), [100]);
    }

    #[test]
    fn a_producer_that_waits_for_room_is_woken_by_the_end() {
        let (queue, _) = queue();
        queue.push(block(0, 100), 10).unwrap();
        let producer = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || queue.push(block(100, 100), 10))
        };
        while lock(&queue.queue).blocked_since.is_none() {
            std::thread::yield_now();
        }
        queue.end(&Ended::Complete);
        assert_eq!(producer.join().unwrap(), Err("the stream has ended".to_owned()));
    }
}
