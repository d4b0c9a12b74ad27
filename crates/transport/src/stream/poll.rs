//! Where the pump sleeps: poll(2) over its two connections and the eventfd by which other threads wake it.

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::pump::{DELIVERY_DELAY, Pump};
use super::spent::Waits;
use super::upstream::Upstream;

/// What poll(2) said.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Ready {
    pub(super) upstream: bool,
    pub(super) downstream: bool,
}

impl Pump {
    /// Sleeps until something is to be done.
    pub(super) fn wait(&mut self) -> Ready {
        let wants_blocks = self.wants_produced();
        let reads_upstream = self.wants_upstream();
        let has_unread = reads_upstream && self.upstream.as_ref().is_some_and(Upstream::may_have_more);
        if has_unread || !self.shared.fall_asleep(self.wake_at_consumed(), wants_blocks) {
            return Ready {
                upstream: reads_upstream,
                downstream: true,
            };
        }
        let asleep_at = self.look_at_clock();
        let waits = self.waits_for(reads_upstream, wants_blocks);
        self.shared
            .spent
            .worked(asleep_at.saturating_sub(self.working_since));
        let event = PollFd::from_borrowed_fd(self.shared.event_fd(), PollFlags::IN);
        let (mut fds, mut used) = ([event.clone(), event.clone(), event], 1);
        if let Some(downstream) = &self.downstream {
            let mut flags = PollFlags::IN;
            flags.set(PollFlags::OUT, downstream.wants_write());
            fds[used] = PollFd::from_borrowed_fd(downstream.fd(), flags);
            used += 1;
        }
        // A connection that is not read now is left out: its end would be reported again and again (POLLHUP cannot be
        // masked, poll(2)).
        let watched =
            |upstream: &&Upstream| reads_upstream || upstream.wants_write() || self.relay.has_ended();
        if let Some(upstream) = self.upstream.as_ref().filter(watched) {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, reads_upstream);
            flags.set(PollFlags::OUT, upstream.wants_write());
            fds[used] = PollFd::from_borrowed_fd(upstream.fd(), flags);
            used += 1;
        }
        let timeout = self.pause();
        // An interrupted poll is a short one.
        let is_due = poll(&mut fds[..used], Some(&timeout)) == Ok(0);
        self.clock = self.epoch.elapsed();
        self.working_since = self.clock;
        self.shared
            .spent
            .waited(waits, self.working_since.saturating_sub(asleep_at));
        let mut events = fds[..used].iter().map(PollFd::revents);
        let event = events.next().unwrap_or(PollFlags::empty());
        let downstream = self
            .downstream
            .as_ref()
            .and_then(|_| events.next())
            .unwrap_or(PollFlags::empty());
        let upstream = events.next().unwrap_or(PollFlags::empty());
        self.shared.wake_up(event.contains(PollFlags::IN));
        let ended = PollFlags::HUP | PollFlags::ERR;
        // A block that comes slowly is not readable before it is whole (SO_RCVLOWAT), yet its bytes are a sign of life.
        let reads = upstream.intersects(PollFlags::IN | ended) || (is_due && reads_upstream);
        if let Some(link) = &mut self.upstream
            && reads
        {
            link.refill();
        }
        if let Some(link) = &mut self.downstream
            && downstream.contains(PollFlags::OUT)
        {
            link.unblock();
        }
        Ready {
            upstream: reads,
            downstream: downstream.intersects(PollFlags::IN | ended),
        }
    }

    /// How long there is nothing to do from now on, if nothing happens.
    fn pause(&self) -> Timespec {
        let due = self.relay.poll_timeout().unwrap_or_default();
        let due = self.fresh_since.map_or(due, |at| due.min(at + DELIVERY_DELAY));
        let pause = due.saturating_sub(self.clock);
        Timespec {
            tv_sec: pause.as_secs().cast_signed(),
            tv_nsec: pause.subsec_nanos().into(),
        }
    }

    /// What keeps the pump from going on.
    fn waits_for(&self, reads_upstream: bool, wants_blocks: bool) -> Waits {
        let is_backed_up = self.is_head && self.downstream.as_ref().is_some_and(|link| link.wants_write());
        if self.relay.has_ended() {
            return if self.unconsumed.is_empty() {
                Waits::Other
            } else {
                Waits::Consumer
            };
        }
        if reads_upstream || (wants_blocks && !is_backed_up) {
            Waits::Upstream
        } else if self.upstream.is_none() && !self.is_head {
            Waits::Other
        } else if self.has_consumer && self.relay.is_held_by_consumer() {
            Waits::Consumer
        } else {
            Waits::Downstream
        }
    }

    /// Bytes consumed at which the pump wants to be woken: when it waits for room, by an eighth of the window at a
    /// time; at the end of the stream, when all is consumed. Never more than there is to consume: what the consumer
    /// finished since [`Pump::note_consumption`] looked would then never be noticed.
    fn wake_at_consumed(&self) -> u64 {
        let Some(last) = self.unconsumed.back().filter(|_| self.has_consumer) else {
            return u64::MAX;
        };
        let waits_for = if self.relay.has_ended() {
            WaitsFor::End
        } else if self.wants_upstream() {
            return u64::MAX;
        } else {
            WaitsFor::Room {
                window_bytes: self.window_bytes as u64,
            }
        };
        wake_at(waits_for, self.shared.consumed(), last.end())
    }
}

/// What consumption is waited for.
#[derive(Debug, Clone, Copy)]
enum WaitsFor {
    /// All of it.
    End,
    /// Some, to read on.
    Room { window_bytes: u64 },
}

/// `consumed` may have reached `last` already; then the answer is no more than it, and the pump looks again first.
fn wake_at(waits_for: WaitsFor, consumed: u64, last: u64) -> u64 {
    match waits_for {
        WaitsFor::End => last,
        WaitsFor::Room { window_bytes } => last.min(consumed + (window_bytes / 8).max(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::{WaitsFor, wake_at};

    #[test]
    fn a_pump_never_waits_for_more_than_there_is_to_consume() {
        for window_bytes in [0, 1, 8, 64 << 20] {
            for waits_for in [WaitsFor::End, WaitsFor::Room { window_bytes }] {
                for consumed in [0, 1, 99, 100] {
                    assert!(
                        wake_at(waits_for, consumed, 100) <= 100,
                        "{waits_for:?} at {consumed}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_pump_that_waits_for_room_is_woken_before_the_window_is_empty() {
        let room = WaitsFor::Room { window_bytes: 800 };
        assert_eq!(wake_at(room, 0, 800), 100);
        assert_eq!(wake_at(room, 650, 800), 750);
    }
}
