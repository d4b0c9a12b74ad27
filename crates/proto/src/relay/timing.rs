//! A relay's timers: when it wants to be called, and what it does then.

use std::time::Duration;

use super::{Life, Relay};

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
        Some(neighbours.into_iter().flatten().fold(fallback, Duration::min))
    }

    /// Lets time pass. Call it at [`Self::poll_timeout`]; earlier or more often does no harm.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.tick(now);
        if self.life == Life::Over {
            return;
        }
        self.upstream_timeout(now);
        self.downstream_timeout(now);
    }

    /// Every call passes here. When it comes long after the time that was asked for, the driver itself was away
    /// (stopped, swapped out, a debugger) and what the neighbours sent meanwhile is waiting unread: their silence
    /// starts anew instead of ending the links.
    pub(super) fn tick(&mut self, now: Duration) {
        let away = self
            .poll_timeout()
            .is_some_and(|due| now >= due + self.config.silence / 2);
        if away {
            self.upstream.forgive(now);
            self.downstream.forgive(now);
        }
        self.clock.last_call = self.clock.last_call.max(now);
    }
}
