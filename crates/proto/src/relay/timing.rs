//! A relay's timers.

use std::time::Duration;

use super::{Life, Relay};

/// Least delay that counts. Any timer may be late by less.
const LEAST_DELAY: Duration = Duration::from_millis(50);

/// The time of the machine's last call, and the time for which it asked.
#[derive(Debug)]
pub(super) struct Clock {
    last_call: Duration,
}

impl Clock {
    pub(super) const fn new(now: Duration) -> Self {
        Self { last_call: now }
    }
}

impl Relay {
    /// Returns the latest time at which [`Self::handle_timeout`] must be called. `None` only if all is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.life == Life::Over {
            return None;
        }
        let silence = self.config.silence;
        let neighbours = [self.upstream.deadline(silence), self.downstream.deadline(silence)];
        // The last timeout is only for a head or tail whose neighbour is gone, so that no state is without a
        // timer.
        let fallback = self.clock.last_call + silence;
        let all = neighbours.into_iter().chain([self.held_until]).flatten();
        Some(all.fold(fallback, Duration::min))
    }

    /// Lets time pass. Call it at [`Self::poll_timeout`]; earlier or more often does no harm.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.tick(now);
        if self.life == Life::Over {
            return;
        }
        self.held_until = self.held_until.filter(|until| now < *until);
        self.upstream_timeout(now);
        self.downstream_timeout(now);
    }

    /// Keeps new data from the successor for so long. It is less if the stream ends, the window fills or the
    /// successor changes. Then the successor gets all of it at once.
    pub fn hold(&mut self, now: Duration, time: Duration) {
        self.tick(now);
        self.held_until = Some(now + time);
    }

    pub(super) fn holds_back(&self) -> bool {
        self.held_until.is_some() && !self.window.has_ended() && !self.window.is_filling()
    }

    /// Takes in the time of a call. Every call passes here. A call may come long after the requested time,
    /// because the driver itself was away (stopped, swapped out, a debugger). Then the neighbours' messages
    /// are unread, and their silence starts anew instead of ending the links. On a loaded machine calls are
    /// late by less, again and again; that time is no silence of theirs either.
    pub(super) fn tick(&mut self, now: Duration) {
        let due = self.poll_timeout().unwrap_or(now);
        let late = now.saturating_sub(due.max(self.clock.last_call));
        if now >= due + self.config.silence / 2 {
            self.upstream.forgive(now);
            self.downstream.forgive(now);
        } else if late >= LEAST_DELAY {
            self.upstream.excuse(now, late);
            self.downstream.excuse(now, late);
        }
        self.clock.last_call = self.clock.last_call.max(now);
    }
}
