//! Decides for what and how long the pump sleeps, and counts that time.

use std::time::Duration;

use rustix::event::PollFlags;

use super::poll::poll_links;
use super::{LocalEnd, Pump};
use crate::stream::group::GroupEnd;
use crate::stream::spent::Waits;
use crate::stream::upstream::Upstream;

/// The links that have something to read.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Ready {
    pub(super) upstream: bool,
    pub(super) downstream: bool,
    pub(super) group: bool,
}

impl Pump {
    /// Sleeps until there is work to do.
    pub(super) fn wait(&mut self, has_more: bool) -> Ready {
        let wants_blocks = self.wants_produced();
        let reads_upstream = self.reads_upstream();
        let has_unread = reads_upstream && self.predecessor.link().is_some_and(Upstream::may_have_more);
        if has_unread || has_more || !self.handle().fall_asleep(self.wake_at_consumed(), wants_blocks) {
            return Ready {
                upstream: reads_upstream,
                downstream: true,
                group: true,
            };
        }
        let waits = self.waits_for(wants_blocks);
        let due = self.due_at();
        let downstream = self.successor.link().map(|link| {
            let mut flags = PollFlags::IN;
            flags.set(PollFlags::OUT, link.wants_write());
            (link.fd(), flags)
        });
        // A connection that is not read now is left out: its end would be reported again and again (POLLHUP
        // cannot be masked, poll(2)).
        let has_ended = self.relay.has_ended();
        let watched = |link: &&Upstream| reads_upstream || link.wants_write() || has_ended;
        let upstream = self.predecessor.link().filter(watched).map(|link| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, reads_upstream);
            flags.set(PollFlags::OUT, link.wants_write());
            (link.fd(), flags)
        });
        let is_resting = self.is_group_resting();
        let group = self.group.as_ref().map(|group| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, group.wants_read() && !is_resting);
            flags.set(PollFlags::OUT, group.wants_write());
            (group.fd(), flags)
        });
        let pump = &self.target.pump;
        let polled = self.meter.sleep(pump.spent(), waits, |asleep_at| {
            poll_links(
                pump.event_fd(),
                [upstream, downstream, group],
                due.saturating_sub(asleep_at),
            )
        });
        pump.wake_up(polled.is_woken);
        let is_rested = is_resting && !self.is_group_resting();
        let ended = PollFlags::HUP | PollFlags::ERR;
        // A block that comes slowly is not readable before it is whole (SO_RCVLOWAT), yet its bytes are a
        // sign of life.
        let reads = polled.upstream.intersects(PollFlags::IN | ended)
            || (polled.is_due && !is_rested && reads_upstream);
        if let Some(link) = self.predecessor.link_mut()
            && reads
        {
            link.refill();
        }
        if let Some(link) = self.successor.link_mut()
            && polled.downstream.contains(PollFlags::OUT)
        {
            link.unblock();
        }
        if let Some(GroupEnd::Sending(sending)) = &mut self.group
            && polled.group.contains(PollFlags::OUT)
        {
            sending.unblock();
        }
        Ready {
            upstream: reads,
            downstream: polled.downstream.intersects(PollFlags::IN | ended),
            group: is_rested || polled.group.intersects(PollFlags::IN | ended),
        }
    }

    /// Returns the time until which there is nothing to do, if nothing happens.
    fn due_at(&self) -> Duration {
        let due = self.relay.poll_timeout().unwrap_or_default();
        let due = self.group_due_at().map_or(due, |at| due.min(at));
        match &self.local {
            LocalEnd::Consumer(delivery) => delivery.due_at().map_or(due, |at| due.min(at)),
            LocalEnd::Producer(_) => due,
        }
    }

    /// Returns the end of the last block that the consumer is not known to be done with; none where the
    /// stream is produced.
    fn unconsumed_until(&self) -> Option<u64> {
        match &self.local {
            LocalEnd::Consumer(delivery) => delivery.unconsumed_until(),
            LocalEnd::Producer(_) => None,
        }
    }

    /// Returns the party that keeps the pump from going on.
    fn waits_for(&self, wants_blocks: bool) -> Waits {
        let is_head = self.local.is_producer();
        let is_backed_up = is_head && self.successor.link().is_some_and(|link| link.wants_write());
        if self.relay.has_ended() {
            return if self.unconsumed_until().is_none() {
                Waits::Other
            } else {
                Waits::Consumer
            };
        }
        if self.wants_upstream() || (wants_blocks && !is_backed_up) {
            Waits::Upstream
        } else if self.predecessor.link().is_none() && !is_head {
            Waits::Other
        } else if !is_head && self.relay.is_held_by_consumer() {
            Waits::Consumer
        } else {
            Waits::Downstream
        }
    }

    /// Returns the number of consumed bytes at which the pump must be woken. If it waits for room, it is an
    /// eighth of the window at a time; at the end of the stream, it is all data. It is never more than there
    /// is to consume. Otherwise bytes consumed since the last look of [`Pump::note_consumption`] would never
    /// be noticed.
    fn wake_at_consumed(&self) -> u64 {
        let Some(last) = self.unconsumed_until() else {
            return u64::MAX;
        };
        let waits_for = if self.relay.has_ended() {
            WaitsFor::End
        } else if self.wants_upstream() {
            return u64::MAX;
        } else {
            WaitsFor::Room {
                window_bytes: self.window.capacity() as u64,
            }
        };
        wake_at(waits_for, self.handle().delivery().consumed(), last)
    }
}

/// The consumption that the pump waits for.
#[derive(Debug, Clone, Copy)]
enum WaitsFor {
    /// All of it.
    End,
    /// Some, to read on.
    Room { window_bytes: u64 },
}

/// `consumed` may have reached `last` already; then the answer is no more than it, and the pump looks again
/// first.
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
