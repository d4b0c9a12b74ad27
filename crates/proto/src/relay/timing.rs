//! A relay's timers: when it wants to be called, and what it does then.

use std::time::Duration;

use super::{Life, Relay};

/// Less is what a timer is late by anyway.
const LEAST_DELAY: Duration = Duration::from_millis(50);

/// Remembers when the machine was last called.
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
    /// When [`Self::handle_timeout`] wants to be called at the latest; `None` only when all is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.life == Life::Over {
            return None;
        }
        let silence = self.config.silence;
        let neighbours = [self.upstream.deadline(silence), self.downstream.deadline(silence)];
        // The last one is only for a head or tail whose neighbour is gone: no state without a timer.
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

    /// Keeps from the successor what comes for so long; less when the stream ends, the window fills or the successor
    /// changes. Then it gets all of it at once.
    pub fn hold(&mut self, now: Duration, time: Duration) {
        self.tick(now);
        self.held_until = Some(now + time);
    }

    pub(super) fn holds_back(&self) -> bool {
        self.held_until.is_some() && !self.window.has_ended() && !self.window.is_filling()
    }

    /// Every call passes here. When it comes long after the time that was asked for, the driver itself was away
    /// (stopped, swapped out, a debugger) and what the neighbours sent meanwhile is waiting unread: their silence
    /// starts anew instead of ending the links. When it is late by less, again and again as on a loaded machine, that time is
    /// no silence of theirs.
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
