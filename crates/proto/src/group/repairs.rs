//! The sender's queue of stripes that need repairs.

use std::collections::VecDeque;
use std::time::Duration;

/// Numbers of stripes with repairs to be sent. Repairs wait a little for more of them, so that a burst is
/// worth a call.
#[derive(Debug)]
pub(super) struct Repairs {
    queue: VecDeque<u32>,
    /// Time at which the oldest repair is to go.
    due: Option<Duration>,
    /// Repairs in the queue, at least.
    owed: usize,
    wait: Duration,
}

impl Repairs {
    /// Returns an empty queue whose repairs wait for so long.
    pub(super) const fn new(wait: Duration) -> Self {
        Self {
            queue: VecDeque::new(),
            due: None,
            owed: 0,
            wait,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns the time at which repairs are to go, if there are any.
    pub(super) const fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Returns true if a burst of `most` repairs is to go now.
    pub(super) fn are_due(&self, now: Duration, most: usize) -> bool {
        self.owed >= most || self.due.is_some_and(|due| now >= due)
    }

    /// Takes note of more repairs; `is_new` if the stripe is not in the queue.
    pub(super) fn add(&mut self, now: Duration, stripe: u32, repairs: u32, is_new: bool) {
        self.owed += repairs as usize;
        if is_new {
            self.queue.push_back(stripe);
        }
        self.due.get_or_insert(now + self.wait);
    }

    /// Returns the stripe whose repairs are next.
    pub(super) fn front(&self) -> Option<u32> {
        self.queue.front().copied()
    }

    /// Takes the first stripe out.
    pub(super) fn pop(&mut self) {
        self.queue.pop_front();
    }

    /// Takes note that a burst of `repairs` was made.
    pub(super) fn handle_burst(&mut self, now: Duration, repairs: usize) {
        self.owed = self.owed.saturating_sub(repairs);
        if self.queue.is_empty() {
            self.due = None;
            self.owed = 0;
        } else {
            self.due = Some(now);
        }
    }
}
