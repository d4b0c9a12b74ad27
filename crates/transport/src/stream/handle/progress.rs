//! The position of a stream at a node, written by the pump and read by the control task.

use std::sync::atomic::{AtomicU64, Ordering};

/// A stream's position at one node, in payload bytes. Each figure is exact; together they may be a moment
/// apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Received from the predecessor or the producer, and verified.
    pub(crate) received: u64,
    /// Used up by the consumer.
    pub(crate) consumed: u64,
    /// Retained in the window.
    pub(crate) buffered: u64,
    /// The first byte that a successor can still get here.
    pub(crate) retained_from: u64,
}

/// [`Figures`] shared between threads.
#[derive(Debug, Default)]
pub(super) struct Progress {
    received: AtomicU64,
    consumed: AtomicU64,
    buffered: AtomicU64,
    retained_from: AtomicU64,
}

impl Progress {
    pub(super) fn publish(&self, figures: Figures) {
        self.received.store(figures.received, Ordering::Relaxed);
        self.consumed.store(figures.consumed, Ordering::Relaxed);
        self.buffered.store(figures.buffered, Ordering::Relaxed);
        self.retained_from.store(figures.retained_from, Ordering::Relaxed);
    }

    pub(super) fn figures(&self) -> Figures {
        Figures {
            received: self.received.load(Ordering::Relaxed),
            consumed: self.consumed.load(Ordering::Relaxed),
            buffered: self.buffered.load(Ordering::Relaxed),
            retained_from: self.retained_from.load(Ordering::Relaxed),
        }
    }
}
