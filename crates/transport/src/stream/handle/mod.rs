//! The one object of a stream that all its threads hold: [`PumpHandle`], made of an inbox, two queues,
//! figures, and the event that wakes the pump. Each part has its own lock and its own tests.

mod delivery;
mod production;
mod progress;
mod wake;

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ka_proto::StreamName;

use super::buffer::Pool;
use super::inbox::PumpInput;
use super::spent::{Spent, Sums};
use crate::error::TransportError;

pub(super) use delivery::DeliveryQueue;
pub(super) use production::ProductionQueue;
pub(crate) use progress::Figures;
use progress::Progress;
use wake::WakeEvent;

/// The ending of a stream at this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Everything arrived and the end block agrees.
    Complete,
    /// The stream will not be completed here, for this reason.
    Failed(String),
}

/// A stream's pump as the other threads reach it. The head of [`super`] says which thread calls what.
#[derive(Debug)]
pub(crate) struct PumpHandle {
    name: StreamName,
    pool: Arc<Pool>,
    wake: Arc<WakeEvent>,
    inbox: Mutex<Vec<PumpInput>>,
    delivery: DeliveryQueue,
    production: ProductionQueue,
    progress: Progress,
    spent: Spent,
    epoch: Instant,
}

/// For every thread.
impl PumpHandle {
    pub(crate) fn new(name: StreamName, pool: Arc<Pool>) -> Result<Arc<Self>, TransportError> {
        let wake = Arc::new(WakeEvent::new().map_err(TransportError::system("making an eventfd"))?);
        let epoch = Instant::now();
        Ok(Arc::new(Self {
            name,
            pool,
            inbox: Mutex::default(),
            delivery: DeliveryQueue::new(Arc::clone(&wake), epoch),
            production: ProductionQueue::new(Arc::clone(&wake)),
            wake,
            progress: Progress::default(),
            spent: Spent::default(),
            epoch,
        }))
    }

    /// Returns the stream's name.
    pub(crate) const fn name(&self) -> &StreamName {
        &self.name
    }

    /// Memory for the stream's blocks.
    pub(crate) const fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Passes an input to the pump, and wakes it.
    pub(crate) fn post(&self, input: PumpInput) {
        lock(&self.inbox).push(input);
        self.wake.wake();
    }

    /// Returns the queue from the pump to the consumer.
    pub(super) const fn delivery(&self) -> &DeliveryQueue {
        &self.delivery
    }

    /// Returns the queue from the producer to the pump of the head.
    pub(super) const fn production(&self) -> &ProductionQueue {
        &self.production
    }

    /// Returns the position of the stream here.
    pub(crate) fn progress(&self) -> Figures {
        self.progress.figures()
    }

    /// True when nothing more will come out of it.
    pub(crate) fn has_ended(&self) -> bool {
        self.delivery.has_ended()
    }

    /// Returns the use of time since the stream began here.
    pub(crate) fn sums(&self) -> Sums {
        let now = self.epoch.elapsed();
        self.spent.sums(now, self.delivery.idle(now))
    }

    /// Returns the sums at the head. There the producer reports that it waits for room, or has nothing yet.
    /// The pump cannot tell: while the producer waits until an eighth of the window is free, the pump has
    /// room and gets nothing.
    pub(crate) fn head_sums(&self) -> Sums {
        let blocked = self.production.blocked();
        self.sums().of_head(blocked)
    }
}

/// For the pump's thread only.
impl PumpHandle {
    /// Returns the descriptor that is readable once another thread has woken the pump.
    pub(super) fn event_fd(&self) -> BorrowedFd<'_> {
        self.wake.fd()
    }

    /// Takes everything that was posted.
    pub(super) fn take_inbox(&self) -> Vec<PumpInput> {
        std::mem::take(&mut *lock(&self.inbox))
    }

    /// Announces that the pump is about to poll, to be woken when `wake_at_consumed` bytes are consumed and,
    /// if it `wants_blocks`, by the next one produced. False when something came in meanwhile and it must
    /// look again first.
    pub(super) fn fall_asleep(&self, wake_at_consumed: u64, wants_blocks: bool) -> bool {
        self.delivery.wake_at(wake_at_consumed);
        self.wake.announce_sleep();
        // The order matters: a change after the announcement wakes the pump, and an earlier one is seen here.
        let mut nothing_new = lock(&self.inbox).is_empty() && !self.delivery.has_reached(wake_at_consumed);
        if wants_blocks {
            nothing_new &= self.production.announce_wait();
        }
        if !nothing_new {
            self.wake.stay_awake();
        }
        nothing_new
    }

    /// After polling: takes the wake-up back if one was on its way.
    pub(super) fn wake_up(&self, event_is_readable: bool) {
        self.wake.stay_awake();
        if event_is_readable {
            self.wake.clear();
        }
    }

    /// The stream begins at byte `start` here: everything before counts as consumed.
    pub(super) fn begin_at(&self, start: u64) {
        self.delivery.begin_at(start);
    }

    /// Shows how far the stream has come.
    pub(super) fn publish(&self, figures: Figures) {
        self.progress.publish(figures);
    }

    /// Returns the sums of the pump's own time.
    pub(super) const fn spent(&self) -> &Spent {
        &self.spent
    }

    /// Ends both queues. The first ending counts.
    pub(super) fn end(&self, ended: &Ended) {
        self.delivery.end(ended);
        self.production.end(ended);
    }
}

/// A panic elsewhere leaves what these locks guard usable: each change is complete before its lock is
/// released.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle() -> Arc<PumpHandle> {
        PumpHandle::new(StreamName::new("s").unwrap(), Pool::new(0)).unwrap()
    }

    #[test]
    fn a_pump_does_not_fall_asleep_over_what_came_before() {
        let handle = handle();
        assert!(handle.fall_asleep(u64::MAX, true));
        handle.wake_up(false);
        handle.post(PumpInput::EndStream);
        assert!(!handle.fall_asleep(u64::MAX, true), "a message waits");
        assert_eq!(handle.take_inbox().len(), 1);
        assert!(!handle.fall_asleep(0, true), "as much is consumed already");
        assert!(handle.fall_asleep(1, true));
    }

    #[test]
    fn an_ending_ends_both_queues_and_the_first_one_counts() {
        let handle = handle();
        assert!(!handle.has_ended());
        handle.end(&Ended::Failed("gone".to_owned()));
        handle.end(&Ended::Complete);
        assert!(handle.has_ended());
        assert_eq!(handle.delivery().failure(), Some("gone".to_owned()));
        let block = super::super::buffer::tests_block(0, 10);
        assert_eq!(handle.production().push(block, 100), Err("gone".to_owned()));
    }
}
