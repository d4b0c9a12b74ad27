//! What a stream's pump thread shares with the threads around it: its inbox, the queue to the consumer, the queue
//! from the producer, and the eventfd that wakes it.
//!
//! Every wake costs two system calls and a context switch, so the pump says what it waits for and the others wake it
//! for that only.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ka_proto::StreamName;
use rustix::event::{EventfdFlags, eventfd};

use super::buffer::{Pool, SealedBlock};
use super::inbox::Input;
use super::spent::{Spent, Sums};
use crate::error::TransportError;

/// Bytes that the producer may be ahead of the head's socket: enough to ride out a pause of the producer, little enough
/// to stay in the cache.
const MAX_AHEAD: usize = 8 << 20;

/// State shared around one stream.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: StreamName,
    pub(crate) pool: Arc<Pool>,
    event: OwnedFd,
    asleep: AtomicBool,
    inbox: Mutex<Vec<Input>>,
    progress: Progress,
    pub(super) spent: Spent,
    epoch: Instant,
    /// Bytes handed to the consumer, in the unit of `consumed`.
    handed_out: AtomicU64,
    /// How long the consumer had nothing to do, in microseconds, up to `idle_since`.
    idle_us: AtomicU64,
    /// When it ran out of work, in microseconds since `epoch`, plus one; 0 while it has some.
    idle_since: AtomicU64,
    consumed: AtomicU64,
    wake_at_consumed: AtomicU64,
    delivery: Mutex<Delivery>,
    /// The stream will not be completed here.
    has_failed: AtomicBool,
    delivered: Condvar,
    production: Mutex<Production>,
    room: Condvar,
}

/// How far the stream is here, for other threads to look at.
#[derive(Debug, Default)]
struct Progress {
    received: AtomicU64,
    consumed: AtomicU64,
    buffered: AtomicU64,
    retained_from: AtomicU64,
}

/// From the pump to the consumer.
#[derive(Debug, Default)]
struct Delivery {
    blocks: VecDeque<Arc<SealedBlock>>,
    end: Option<Ended>,
    reader_waits: bool,
    /// The consumer gave up: blocks count as consumed at once, so that the chain goes on without it.
    abandoned: bool,
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Everything arrived and the end block agrees.
    Complete,
    /// It will not be completed here.
    Failed(String),
}

/// From the producer to the pump of the head.
#[derive(Debug, Default)]
struct Production {
    blocks: VecDeque<Arc<SealedBlock>>,
    /// Bytes of `blocks`, by [`SealedBlock::cost`].
    queued: usize,
    /// Bytes that the pump has taken and not yet released.
    taken: usize,
    window: usize,
    ended: Option<Ended>,
    pump_waits: bool,
    producer_waits: bool,
    /// How long the producer has had a block and no room for it, and since when it has.
    blocked: Duration,
    blocked_since: Option<Instant>,
}

impl Production {
    /// One block always fits, or a block larger than the window would wait for ever.
    const fn has_room(&self, cost: usize) -> bool {
        let held = self.queued + self.taken;
        held == 0 || (self.queued + cost <= MAX_AHEAD && held + cost <= self.window)
    }

    /// Whether to wake the producer: only for room that is worth it.
    fn take_waiting_producer(&mut self) -> bool {
        let roomy = self.queued <= MAX_AHEAD / 2 && self.queued + self.taken <= self.window / 8 * 7;
        roomy && std::mem::take(&mut self.producer_waits)
    }

    fn blocked(&self) -> Duration {
        let open = self.blocked_since.map_or(Duration::ZERO, |since| since.elapsed());
        self.blocked + open
    }
}

impl Shared {
    pub(crate) fn new(name: StreamName, pool: Arc<Pool>) -> Result<Arc<Self>, TransportError> {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .map_err(|errno| TransportError::system("making an eventfd")(errno.into()))?;
        Ok(Arc::new(Self {
            name,
            pool,
            event,
            asleep: AtomicBool::new(false),
            inbox: Mutex::default(),
            progress: Progress::default(),
            spent: Spent::default(),
            epoch: Instant::now(),
            handed_out: AtomicU64::new(0),
            idle_us: AtomicU64::new(0),
            idle_since: AtomicU64::new(1),
            consumed: AtomicU64::new(0),
            wake_at_consumed: AtomicU64::new(u64::MAX),
            delivery: Mutex::default(),
            has_failed: AtomicBool::new(false),
            delivered: Condvar::new(),
            production: Mutex::default(),
            room: Condvar::new(),
        }))
    }

    /// Gives the pump something to handle, and wakes it.
    pub(crate) fn post(&self, input: Input) {
        lock(&self.inbox).push(input);
        self.wake();
    }

    /// The first byte that a successor can still get here.
    pub(crate) fn retained_from(&self) -> u64 {
        self.progress.retained_from.load(Ordering::Relaxed)
    }

    /// Bytes received, consumed, and retained now. Each is exact, together they may be a moment apart.
    pub(crate) fn progress(&self) -> (u64, u64, u64) {
        let progress = &self.progress;
        (
            progress.received.load(Ordering::Relaxed),
            progress.consumed.load(Ordering::Relaxed),
            progress.buffered.load(Ordering::Relaxed),
        )
    }

    /// Whether nothing more will come out of it.
    pub(crate) fn has_ended(&self) -> bool {
        lock(&self.delivery).end.is_some() && self.idle_since.load(Ordering::Relaxed) > 0
    }

    /// The same at the head: there the producer says whether it waits for room or has nothing yet. The pump cannot tell:
    /// while the producer waits until an eighth of the window is free, the pump has room and gets nothing.
    pub(crate) fn head_sums(&self) -> Sums {
        let blocked = lock(&self.production).blocked();
        self.sums().of_head(blocked)
    }

    /// Where the time went since the stream began here.
    pub(crate) fn sums(&self) -> Sums {
        let open = self.idle_since.load(Ordering::Relaxed);
        let now = self.micros();
        let open_us = open.checked_sub(1).map_or(0, |since| now.saturating_sub(since));
        let idle = self.idle_us.load(Ordering::Relaxed) + open_us;
        self.spent
            .sums(Duration::from_micros(now), Duration::from_micros(idle))
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The consumer gets something to do. A clock is read only where it had nothing.
    fn end_idling(&self, bytes: u64) {
        self.handed_out.fetch_add(bytes, Ordering::SeqCst);
        let since = self.idle_since.swap(0, Ordering::SeqCst);
        if since > 0 {
            self.idle_us
                .fetch_add(self.micros().saturating_sub(since - 1), Ordering::Relaxed);
        }
    }

    fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            // Fails only when the counter is full, and then the pump is awake anyway.
            rustix::io::write(&self.event, &1u64.to_ne_bytes()).ok();
        }
    }
}

/// The pump's side.
impl Shared {
    pub(crate) fn event_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    pub(crate) fn take_inbox(&self) -> Vec<Input> {
        std::mem::take(&mut *lock(&self.inbox))
    }

    /// Announces that the pump is about to poll, to be woken when `wake_at_consumed` bytes are consumed and, if it
    /// `wants_blocks`, by the next one produced. False when something came in meanwhile and it must look again first.
    pub(crate) fn fall_asleep(&self, wake_at_consumed: u64, wants_blocks: bool) -> bool {
        self.wake_at_consumed.store(wake_at_consumed, Ordering::SeqCst);
        self.asleep.store(true, Ordering::SeqCst);
        let mut nothing_new =
            lock(&self.inbox).is_empty() && self.consumed.load(Ordering::SeqCst) < wake_at_consumed;
        if wants_blocks {
            let mut production = lock(&self.production);
            nothing_new &= production.blocks.is_empty();
            production.pump_waits = true;
        }
        if !nothing_new {
            self.asleep.store(false, Ordering::SeqCst);
        }
        nothing_new
    }

    /// After polling: takes the wake-up back if one was on its way.
    pub(crate) fn wake_up(&self, event_is_readable: bool) {
        self.asleep.store(false, Ordering::SeqCst);
        if event_is_readable {
            let mut counter = [0; 8];
            // Non-blocking; whatever it gives, the pump now looks at everything.
            rustix::io::read(&self.event, &mut counter).ok();
        }
    }

    pub(crate) fn publish_progress(&self, received: u64, consumed: u64, buffered: u64, retained_from: u64) {
        self.progress.received.store(received, Ordering::Relaxed);
        self.progress.consumed.store(consumed, Ordering::Relaxed);
        self.progress.buffered.store(buffered, Ordering::Relaxed);
        self.progress
            .retained_from
            .store(retained_from, Ordering::Relaxed);
    }

    /// Bytes the consumer is done with, in whatever order.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed.load(Ordering::SeqCst)
    }

    /// The stream begins here: everything before counts as consumed.
    pub(crate) fn begin_at(&self, start: u64) {
        self.consumed.store(start, Ordering::SeqCst);
        self.handed_out.store(start, Ordering::SeqCst);
    }

    /// Hands verified blocks to the consumer.
    pub(crate) fn deliver(&self, blocks: &mut Vec<Arc<SealedBlock>>) {
        if blocks.is_empty() {
            return;
        }
        let mut delivery = lock(&self.delivery);
        if delivery.abandoned {
            blocks.drain(..).for_each(|block| self.consume(&block));
            return;
        }
        self.end_idling(blocks.iter().map(|block| block.end() - block.offset).sum());
        delivery.blocks.extend(blocks.drain(..));
        if std::mem::take(&mut delivery.reader_waits) {
            self.delivered.notify_one();
        }
    }

    /// Ends both queues. The first ending counts.
    pub(crate) fn end(&self, ended: &Ended) {
        let mut delivery = lock(&self.delivery);
        let end = delivery.end.get_or_insert_with(|| ended.clone());
        let has_failed = matches!(end, Ended::Failed(_));
        self.has_failed.store(has_failed, Ordering::Release);
        self.delivered.notify_all();
        drop(delivery);
        let mut production = lock(&self.production);
        production.ended.get_or_insert_with(|| ended.clone());
        self.room.notify_all();
    }

    /// Takes what the producer has sealed, until `budget` bytes are reached.
    pub(crate) fn take_produced(&self, into: &mut VecDeque<Arc<SealedBlock>>, budget: usize) {
        let mut production = lock(&self.production);
        let mut taken = 0;
        while taken < budget
            && let Some(block) = production.blocks.pop_front()
        {
            taken += block.cost();
            into.push_back(block);
        }
        production.queued -= taken;
        production.taken += taken;
        self.wake_producer(&mut production);
    }

    /// Whether nothing is left to take.
    pub(crate) fn has_no_produced(&self) -> bool {
        lock(&self.production).blocks.is_empty()
    }

    /// Makes room for the producer: `cost` bytes are held no more.
    pub(crate) fn release_produced(&self, cost: usize) {
        let mut production = lock(&self.production);
        production.taken = production.taken.saturating_sub(cost);
        self.wake_producer(&mut production);
    }

    fn wake_producer(&self, production: &mut Production) {
        if production.take_waiting_producer() {
            self.room.notify_one();
        }
    }
}

/// The consumer's side.
impl Shared {
    /// Waits for verified blocks and takes all there are; none at the end. What is still there of a stream that failed is
    /// of no use: a node that was set aside for its slow disk would write for a minute what it throws away afterwards.
    pub(crate) fn receive(&self, into: &mut VecDeque<Arc<SealedBlock>>) -> Result<(), String> {
        let mut delivery = lock(&self.delivery);
        loop {
            if let Some(Ended::Failed(reason)) = &delivery.end {
                return Err(reason.clone());
            }
            if !delivery.blocks.is_empty() {
                std::mem::swap(into, &mut delivery.blocks);
                return Ok(());
            }
            if delivery.end.is_some() {
                return Ok(());
            }
            delivery.reader_waits = true;
            delivery = self
                .delivered
                .wait(delivery)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Why the stream will not be completed here, once that is known.
    pub(crate) fn failure(&self) -> Option<String> {
        if !self.has_failed.load(Ordering::Acquire) {
            return None;
        }
        match &lock(&self.delivery).end {
            Some(Ended::Failed(reason)) => Some(reason.clone()),
            _ => None,
        }
    }

    /// The consumer wants nothing more.
    pub(crate) fn abandon(&self, taken: &mut VecDeque<Arc<SealedBlock>>) {
        let mut delivery = lock(&self.delivery);
        delivery.abandoned = true;
        taken
            .drain(..)
            .chain(delivery.blocks.drain(..))
            .for_each(|block| self.consume(&block));
    }

    /// The consumer is done with `block`.
    pub(crate) fn consume(&self, block: &SealedBlock) {
        block.consumed.store(true, Ordering::Release);
        let len = block.end() - block.offset;
        let total = self.consumed.fetch_add(len, Ordering::SeqCst) + len;
        if total == self.handed_out.load(Ordering::SeqCst) {
            self.idle_since.store(self.micros() + 1, Ordering::SeqCst);
        }
        if total >= self.wake_at_consumed.load(Ordering::SeqCst) {
            self.wake_at_consumed.store(u64::MAX, Ordering::SeqCst);
            self.wake();
        }
    }
}

/// The producer's side.
impl Shared {
    /// Waits until less than `window` bytes are held and [`MAX_AHEAD`] unsent, then queues `block`.
    pub(crate) fn produce(&self, block: Arc<SealedBlock>, window: usize) -> Result<(), String> {
        let cost = block.cost();
        let mut production = lock(&self.production);
        production.window = window;
        loop {
            if let Some(ended) = &production.ended {
                return Err(match ended {
                    Ended::Failed(reason) => reason.clone(),
                    Ended::Complete => "the stream has ended".to_owned(),
                });
            }
            if production.has_room(cost) {
                break;
            }
            production.producer_waits = true;
            production.blocked_since.get_or_insert_with(Instant::now);
            production = self.room.wait(production).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(since) = production.blocked_since.take() {
            production.blocked += since.elapsed();
        }
        production.queued += cost;
        production.blocks.push_back(block);
        let wake = std::mem::take(&mut production.pump_waits);
        drop(production);
        if wake {
            self.wake();
        }
        Ok(())
    }
}

/// A panic elsewhere leaves these queues usable: each change is complete before its lock is released.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
