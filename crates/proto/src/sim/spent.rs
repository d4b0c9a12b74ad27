//! The time that a host spends on each kind of work. The transport's pump measures it; here it is known
//! exactly.

use std::time::Duration;

use super::event::SERVER;
use super::host::Endpoint;
use super::world::World;
use crate::control::Progress;
use crate::pace::{Pace, Taker};

/// Sums since the last [`Progress`], up to `until`.
#[derive(Debug)]
pub(super) struct Spent {
    since: Duration,
    until: Duration,
    upstream: Duration,
    consumer: Duration,
    downstream: Duration,
    work: Duration,
    consumer_busy: Duration,
    pub(super) line_busy: Duration,
    pub(super) line_bytes: u64,
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

impl Spent {
    pub(super) const fn new() -> Self {
        Self {
            since: Duration::ZERO,
            until: Duration::ZERO,
            upstream: Duration::ZERO,
            consumer: Duration::ZERO,
            downstream: Duration::ZERO,
            work: Duration::ZERO,
            consumer_busy: Duration::ZERO,
            line_busy: Duration::ZERO,
            line_bytes: 0,
        }
    }

    pub(super) const fn begin(&mut self, now: Duration) {
        *self = Self {
            since: now,
            until: now,
            ..Self::new()
        };
    }

    /// Adds the time since `until`, in which the endpoint did not change.
    /// `waits` is true if a member of the group has no room.
    fn pass(&mut self, now: Duration, endpoint: &Endpoint, working_until: Duration, waits: bool) {
        let time = now.saturating_sub(self.until);
        let worked = working_until.min(now).saturating_sub(self.until);
        self.until = now;
        let relay = &endpoint.relay;
        if !endpoint.disk.is_idle() {
            self.consumer_busy += time;
        }
        self.work += worked;
        let time = time - worked;
        if relay.wants_upstream() && !waits {
            self.upstream += time;
        } else if relay.is_held_by_consumer() {
            self.consumer += time;
        } else {
            self.downstream += time;
        }
    }

    fn take(&mut self) -> Pace {
        let pace = Pace {
            elapsed_ms: millis(self.until.saturating_sub(self.since)),
            upstream_ms: millis(self.upstream),
            consumer_ms: millis(self.consumer),
            downstream_ms: millis(self.downstream),
            work_ms: millis(self.work),
            consumer_busy_ms: millis(self.consumer_busy),
            link_busy_ms: millis(self.line_busy),
            link_bytes: self.line_bytes,
            processor_ms: millis(self.work),
            taker: Taker::Disk,
        };
        self.begin(self.until);
        pace
    }
}

impl World {
    /// Adds the time until now. This comes before an event changes anything at `host`.
    pub(super) fn pass_time(&mut self, host: usize) {
        let now = self.now;
        let slot = &mut self.hosts[host];
        if let Some(endpoint) = &slot.endpoint {
            // The head waits for the work of the server's producer.
            let working_until = if host == SERVER {
                Duration::ZERO
            } else {
                slot.working_until
            };
            let waits = host == SERVER && self.group.waits();
            slot.spent.pass(now, endpoint, working_until, waits);
        }
    }

    /// Tells the server the progress of the stream here, and how the time was spent.
    pub(super) fn tell_progress(&mut self, host: usize) {
        let now = self.now;
        let slot = &mut self.hosts[host];
        let Some(endpoint) = &slot.endpoint else { return };
        let relay = &endpoint.relay;
        let progress = Progress {
            stream: endpoint.stream,
            received: relay.received(),
            consumed: relay.consumed(),
            buffered: relay.buffered(),
            pace: slot.spent.take(),
        };
        if host == SERVER {
            self.server
                .handle_head_pace(now, progress.stream, progress.received, progress.pace);
        } else if let Some(node) = &mut slot.node {
            node.progress(progress);
        }
    }
}
