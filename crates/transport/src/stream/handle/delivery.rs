//! The queue from the pump to the consumer, and the count of consumed bytes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::wake::WakeEvent;
use super::{Ended, lock};
use crate::stream::buffer::SealedBlock;

/// Verified blocks on their way to the consumer.
///
/// The consumer waits in [`DeliveryQueue::receive`]; [`DeliveryQueue::deliver`] and [`DeliveryQueue::end`]
/// wake it. No other thread waits here.
#[derive(Debug)]
pub(in crate::stream) struct DeliveryQueue {
    queue: Mutex<Queue>,
    filled: Condvar,
    /// The stream will not be completed here.
    has_failed: AtomicBool,
    consumption: Consumption,
    wake: Arc<WakeEvent>,
}

#[derive(Debug, Default)]
struct Queue {
    blocks: VecDeque<Arc<SealedBlock>>,
    end: Option<Ended>,
    reader_waits: bool,
    /// The consumer gave up: blocks count as consumed at once, so that the chain goes on without it.
    abandoned: bool,
}

impl DeliveryQueue {
    /// Returns an empty queue; `epoch` is the moment that times of [`DeliveryQueue::idle`] count from.
    pub(super) fn new(wake: Arc<WakeEvent>, epoch: Instant) -> Self {
        Self {
            queue: Mutex::default(),
            filled: Condvar::new(),
            has_failed: AtomicBool::new(false),
            consumption: Consumption::new(epoch),
            wake,
        }
    }

    /// Hands verified blocks to the consumer.
    pub(in crate::stream) fn deliver(&self, blocks: &mut Vec<Arc<SealedBlock>>) {
        if blocks.is_empty() {
            return;
        }
        let mut queue = lock(&self.queue);
        if queue.abandoned {
            blocks.drain(..).for_each(|block| self.consume(&block));
            return;
        }
        self.consumption
            .hand_out(blocks.iter().map(|block| block.end() - block.offset).sum());
        queue.blocks.extend(blocks.drain(..));
        if std::mem::take(&mut queue.reader_waits) {
            self.filled.notify_one();
        }
    }

    /// Waits for verified blocks and takes all of them; none at the end. Blocks left over from a failed
    /// stream are of no use. A node that was set aside for its slow disk would write for a minute and throw
    /// the data away afterwards.
    pub(in crate::stream) fn receive(&self, into: &mut VecDeque<Arc<SealedBlock>>) -> Result<(), String> {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(Ended::Failed(reason)) = &queue.end {
                return Err(reason.clone());
            }
            if !queue.blocks.is_empty() {
                std::mem::swap(into, &mut queue.blocks);
                return Ok(());
            }
            if queue.end.is_some() {
                return Ok(());
            }
            queue.reader_waits = true;
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The reason why the stream will not be completed here, once it is known.
    pub(in crate::stream) fn failure(&self) -> Option<String> {
        if !self.has_failed.load(Ordering::Acquire) {
            return None;
        }
        match &lock(&self.queue).end {
            Some(Ended::Failed(reason)) => Some(reason.clone()),
            _ => None,
        }
    }

    /// Ends the consumer's part. It wants neither the queued blocks nor those that it has `taken`.
    pub(in crate::stream) fn abandon(&self, taken: &mut VecDeque<Arc<SealedBlock>>) {
        let mut queue = lock(&self.queue);
        queue.abandoned = true;
        taken
            .drain(..)
            .chain(queue.blocks.drain(..))
            .for_each(|block| self.consume(&block));
    }

    /// The consumer is done with `block`: wakes the pump if it waits for that.
    pub(in crate::stream) fn consume(&self, block: &SealedBlock) {
        block.consumed.store(true, Ordering::Release);
        if self.consumption.consume(block.end() - block.offset) {
            self.wake.wake();
        }
    }

    /// Returns the bytes that the consumer is done with, in whatever order.
    pub(in crate::stream) fn consumed(&self) -> u64 {
        self.consumption.consumed.load(Ordering::SeqCst)
    }

    /// The stream begins at byte `start`.
    pub(super) fn begin_at(&self, start: u64) {
        self.consumption.begin_at(start);
    }

    /// The pump wants to be woken once so many bytes are consumed.
    pub(super) fn wake_at(&self, consumed: u64) {
        self.consumption.wake_at.store(consumed, Ordering::SeqCst);
    }

    /// True when so many bytes are consumed.
    pub(super) fn has_reached(&self, consumed: u64) -> bool {
        self.consumed() >= consumed
    }

    /// No more blocks come. The first ending counts.
    pub(super) fn end(&self, ended: &Ended) {
        let mut queue = lock(&self.queue);
        let end = queue.end.get_or_insert_with(|| ended.clone());
        let has_failed = matches!(end, Ended::Failed(_));
        self.has_failed.store(has_failed, Ordering::Release);
        self.filled.notify_all();
    }

    /// True if no more blocks come and the consumer has used all that came.
    pub(super) fn has_ended(&self) -> bool {
        lock(&self.queue).end.is_some() && self.consumption.is_idle()
    }

    /// Returns the time for which the consumer has had nothing to do until `now`, both counted from the
    /// epoch.
    pub(super) fn idle(&self, now: Duration) -> Duration {
        self.consumption.idle(now)
    }
}

/// Counts bytes handed to the consumer and bytes it is done with, and the time in which the two are equal. No
/// locks: the consumer may drop its blocks on any thread.
#[derive(Debug)]
struct Consumption {
    epoch: Instant,
    /// Bytes handed to the consumer, in the unit of `consumed`.
    handed_out: AtomicU64,
    consumed: AtomicU64,
    /// Number of consumed bytes at which the pump must be woken.
    wake_at: AtomicU64,
    /// Time for which the consumer had nothing to do, in microseconds, up to `idle_since`.
    idle_us: AtomicU64,
    /// The moment it ran out of work, in microseconds since `epoch`, plus one; 0 while it has some.
    idle_since: AtomicU64,
}

impl Consumption {
    const fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            handed_out: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
            wake_at: AtomicU64::new(u64::MAX),
            idle_us: AtomicU64::new(0),
            idle_since: AtomicU64::new(1),
        }
    }

    fn begin_at(&self, start: u64) {
        self.consumed.store(start, Ordering::SeqCst);
        self.handed_out.store(start, Ordering::SeqCst);
    }

    /// The consumer gets something to do. A clock is read only where it had nothing.
    fn hand_out(&self, bytes: u64) {
        self.handed_out.fetch_add(bytes, Ordering::SeqCst);
        let since = self.idle_since.swap(0, Ordering::SeqCst);
        if since > 0 {
            let idle = micros(self.epoch.elapsed()).saturating_sub(since - 1);
            self.idle_us.fetch_add(idle, Ordering::Relaxed);
        }
    }

    /// Counts `bytes` more as consumed. Returns true if the pump waits for that.
    fn consume(&self, bytes: u64) -> bool {
        let total = self.consumed.fetch_add(bytes, Ordering::SeqCst) + bytes;
        if total == self.handed_out.load(Ordering::SeqCst) {
            let now = micros(self.epoch.elapsed());
            self.idle_since.store(now + 1, Ordering::SeqCst);
        }
        let wakes = total >= self.wake_at.load(Ordering::SeqCst);
        if wakes {
            self.wake_at.store(u64::MAX, Ordering::SeqCst);
        }
        wakes
    }

    fn is_idle(&self) -> bool {
        self.idle_since.load(Ordering::Relaxed) > 0
    }

    fn idle(&self, now: Duration) -> Duration {
        let since = self.idle_since.load(Ordering::Relaxed);
        let open = since
            .checked_sub(1)
            .map_or(0, |since| micros(now).saturating_sub(since));
        Duration::from_micros(self.idle_us.load(Ordering::Relaxed) + open)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::buffer::tests_block as block;

    fn queue() -> (DeliveryQueue, Arc<WakeEvent>) {
        let wake = Arc::new(WakeEvent::new().unwrap());
        (DeliveryQueue::new(Arc::clone(&wake), Instant::now()), wake)
    }

    fn received(queue: &DeliveryQueue) -> Result<Vec<u64>, String> {
        let mut blocks = VecDeque::new();
        queue.receive(&mut blocks)?;
        Ok(blocks.iter().map(|block| block.offset).collect())
    }

    #[test]
    fn blocks_come_out_in_order_and_none_at_the_end() {
        let (queue, _) = queue();
        queue.deliver(&mut vec![block(0, 10), block(10, 10)]);
        queue.deliver(&mut vec![block(20, 5)]);
        queue.end(&Ended::Complete);
        assert_eq!(received(&queue), Ok(vec![0, 10, 20]));
        assert_eq!(received(&queue), Ok(vec![]));
        assert_eq!(queue.failure(), None);
    }

    #[test]
    fn what_is_queued_of_a_stream_that_failed_is_not_given_out() {
        let (queue, _) = queue();
        queue.deliver(&mut vec![block(0, 10)]);
        queue.end(&Ended::Failed("cut".to_owned()));
        assert_eq!(received(&queue), Err("cut".to_owned()));
    }

    #[test]
    fn the_pump_is_woken_when_as_much_is_consumed_as_it_waits_for() {
        let (queue, wake) = queue();
        let blocks = [block(0, 10), block(10, 10), block(20, 10)];
        queue.deliver(&mut blocks.to_vec());
        queue.wake_at(20);
        wake.announce_sleep();
        queue.consume(&blocks[1]);
        assert!(!wake.was_written() && blocks[1].is_consumed());
        queue.consume(&blocks[0]);
        assert!(wake.was_written());
        queue.consume(&blocks[2]);
        assert!(!wake.was_written(), "once");
    }

    #[test]
    fn a_consumer_that_gave_up_holds_nothing_up() {
        let (queue, _) = queue();
        let blocks = [block(0, 10), block(10, 10), block(20, 10)];
        queue.deliver(&mut blocks[..2].to_vec());
        let mut taken = VecDeque::new();
        queue.receive(&mut taken).unwrap();
        queue.abandon(&mut taken);
        queue.deliver(&mut blocks[2..].to_vec());
        assert_eq!(queue.consumed(), 30);
        assert!(blocks.iter().all(|block| block.is_consumed()));
    }

    #[test]
    fn a_consumer_is_idle_while_it_has_nothing() {
        let (queue, _) = queue();
        let second = Duration::from_secs(3600);
        let before = queue.idle(second);
        assert!(before > Duration::from_secs(3599), "{before:?}");
        queue.deliver(&mut vec![block(0, 10)]);
        assert!(
            queue.idle(second) < Duration::from_secs(60),
            "it has something to do"
        );
        queue.end(&Ended::Complete);
        assert!(!queue.has_ended());
        queue.consume(&block(0, 10));
        assert!(queue.has_ended());
        assert!(queue.idle(second) > Duration::from_secs(3500));
    }
}
