//! What can happen, and the queue in virtual time that it waits in.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::net::{Item, LinkId};
use super::scenario::Step;
use crate::ids::{StreamId, StreamOffset};
use crate::link::Ack;

/// The server's host number.
pub(super) const SERVER: usize = 0;

#[expect(
    clippy::large_enum_variant,
    reason = "nearly all events are acknowledgements and blocks"
)]
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// A machine of this host asked to be called.
    Wake,
    /// A node's Join arrives at the server, over the connection of this life of its host.
    Join { from: usize, life: u32 },
    /// A control frame arrives at the server, or (`from` the server) at a node.
    Control { from: usize, life: u32, body: Vec<u8> },
    /// The other end of the control connection is closed.
    ControlClosed { from: usize, life: u32 },
    /// A greeting arrives at the predecessor.
    Dial { link: LinkId },
    /// The predecessor's answer arrives at the successor.
    Dialed { link: LinkId, answer: Answer },
    /// The successor waited long enough for an answer.
    DialTimeout { link: LinkId },
    /// A block arrives at the successor.
    Arrive { link: LinkId, item: Item },
    /// The successor has read, the predecessor may write more.
    Writable,
    /// The processor is through with a block, or the producer with making one.
    Worked,
    /// An acknowledgement arrives at the predecessor.
    Acked { link: LinkId, ack: Ack },
    /// The other end of a data connection is closed.
    LinkClosed { link: LinkId },
    /// The disk has taken a block.
    Consumed { stream: StreamId, offset: StreamOffset },
    /// The consumer is through.
    Synced { stream: StreamId },
    /// Local work of a node is done.
    StepDone { step: Step, life: u32 },
    /// The process is started again.
    Return,
    /// The scenario's fault of this number strikes.
    Fault { number: usize },
}

impl Event {
    /// The data connection that it comes over; none is the control connection.
    pub(super) const fn link(&self) -> Option<LinkId> {
        match self {
            Self::Dial { link }
            | Self::Dialed { link, .. }
            | Self::Arrive { link, .. }
            | Self::Acked { link, .. }
            | Self::LinkClosed { link } => Some(*link),
            _ => None,
        }
    }
}

/// How a predecessor answers a greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Joined,
    /// Closed without a word.
    Closed,
    /// The data is gone; it has what begins here.
    Gap(StreamOffset),
}

/// An event, when, and at which host. `other` is the host at the far end of the network, if it came over one.
#[derive(Debug, Clone)]
pub(super) struct Scheduled {
    pub(super) at: Duration,
    pub(super) number: u64,
    pub(super) host: usize,
    pub(super) other: Option<usize>,
    pub(super) event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The earliest is the greatest; among equals the one that was scheduled first, so that runs repeat exactly and
    /// connections keep their order.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Scheduled>,
    next_number: u64,
}

impl Queue {
    pub(super) fn push(&mut self, at: Duration, host: usize, other: Option<usize>, event: Event) {
        let number = self.next_number;
        self.next_number += 1;
        self.heap.push(Scheduled {
            at,
            number,
            host,
            other,
            event,
        });
    }

    /// Puts an event off, keeping its place among those of its time.
    pub(super) fn postpone(&mut self, scheduled: Scheduled, until: Duration) {
        self.heap.push(Scheduled {
            at: until,
            ..scheduled
        });
    }

    pub(super) fn pop(&mut self) -> Option<Scheduled> {
        self.heap.pop()
    }
}
