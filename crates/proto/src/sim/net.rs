//! Data connections with a rate, a latency and a socket buffer.

use std::collections::VecDeque;
use std::time::Duration;

use crate::block::HEADER_LEN;
use crate::ids::{StreamId, StreamOffset};

/// Bytes that a connection holds between the two processes, in both kernels' buffers.
const SOCKET_BUFFER: u64 = 400 << 10;

/// Returns the time that so many bytes take at this rate.
pub(super) fn time_for(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinkId(pub(super) usize);

/// An item on its way down a link. The tag stands for the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    Block {
        offset: StreamOffset,
        length: u32,
        tag: u64,
    },
    End {
        offset: StreamOffset,
    },
    Idle,
}

impl Item {
    pub(super) const fn bytes(&self) -> u64 {
        let payload = match self {
            Self::Block { length, .. } => *length as u64,
            Self::End { .. } => crate::block::END_LEN as u64,
            Self::Idle => 0,
        };
        payload + HEADER_LEN as u64
    }
}

/// Returns a tag for the payload that no other place in any stream has.
pub(super) const fn tag(stream: StreamId, offset: StreamOffset, length: u32) -> u64 {
    let mut rng = super::rng::Rng::new((stream.0 as u64) << 56 ^ offset.0 << 8 ^ length as u64);
    rng.next()
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) predecessor: usize,
    pub(super) successor: usize,
    pub(super) stream: StreamId,
    pub(super) resume: StreamOffset,
    /// End of the last block written.
    pub(super) sent: StreamOffset,
    /// Items that arrived and are not read yet.
    pub(super) arrived: VecDeque<Item>,
    /// Bytes written and not read yet.
    unread: u64,
    /// Time at which the rate has made up for the written bytes.
    free_at: Duration,
    busy_until: Duration,
    closed_by: [bool; 2],
}

impl Link {
    pub(super) const fn new(
        predecessor: usize,
        successor: usize,
        stream: StreamId,
        resume: StreamOffset,
    ) -> Self {
        Self {
            predecessor,
            successor,
            stream,
            resume,
            sent: resume,
            arrived: VecDeque::new(),
            unread: 0,
            free_at: Duration::ZERO,
            busy_until: Duration::ZERO,
            closed_by: [false; 2],
        }
    }

    pub(super) const fn peer_of(&self, host: usize) -> usize {
        if host == self.predecessor {
            self.successor
        } else {
            self.predecessor
        }
    }

    pub(super) const fn is_writable(&self) -> bool {
        self.unread < SOCKET_BUFFER
    }

    /// Puts an item onto the wire, a token bucket of this rate and burst. Returns the time at which its last
    /// byte leaves, and for how long the wire is busy with it.
    pub(super) fn write(
        &mut self,
        now: Duration,
        item: &Item,
        rate: u64,
        burst: u64,
    ) -> (Duration, Duration) {
        self.unread += item.bytes();
        let saved = time_for(burst, rate);
        self.free_at = self.free_at.max(now.saturating_sub(saved)) + time_for(item.bytes(), rate);
        let leaves = self.free_at.max(now).max(self.busy_until);
        let busy = leaves - self.busy_until.max(now).min(leaves);
        self.busy_until = leaves;
        (leaves, busy)
    }

    pub(super) fn read(&mut self) -> Option<Item> {
        let item = self.arrived.pop_front()?;
        self.unread -= item.bytes();
        Some(item)
    }

    /// Returns the time at which all written data has left. A close follows it.
    pub(super) fn drained_at(&self, now: Duration) -> Duration {
        self.busy_until.max(now)
    }

    /// Marks an end closed. Returns true if it was open.
    pub(super) fn close(&mut self, host: usize) -> bool {
        let end = usize::from(host == self.successor);
        !std::mem::replace(&mut self.closed_by[end], true)
    }

    pub(super) const fn is_closed_by(&self, host: usize) -> bool {
        if host == self.predecessor {
            self.closed_by[0]
        } else {
            self.closed_by[1]
        }
    }
}
