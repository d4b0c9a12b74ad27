//! The events of the simulation, and their queue in virtual time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::net::{Item, LinkId};
use super::scenario::Step;
use crate::ids::{StreamId, StreamOffset};
use crate::link::Ack;

/// The server's host number.
pub(super) const SERVER: usize = 0;

#[derive(Debug, Clone)]
pub(super) enum Event {
    /// A machine of this host reached its timeout.
    Wake,
    /// A node's Join arrives at the server, over the connection of this life of its host.
    Join { from: usize, life: u32 },
    /// A control frame arrives at the server, or at a node if `from` is the server.
    Control { from: usize, life: u32, body: Vec<u8> },
    /// The other end of the control connection is closed.
    ControlClosed { from: usize, life: u32 },
    /// A greeting arrives at the predecessor.
    Dial { link: LinkId },
    /// The predecessor's answer arrives at the successor.
    Dialed { link: LinkId, answer: Answer },
    /// The successor has waited too long for an answer.
    DialTimeout { link: LinkId },
    /// A block arrives at the successor.
    Arrive { link: LinkId, item: Item },
    /// The successor has read, so the predecessor may write more.
    Writable,
    /// The processor has finished a block, or the producer has made one.
    Worked,
    /// An acknowledgement arrives at the predecessor. It is boxed, because the queue moves its events about.
    Acked { link: LinkId, ack: Box<Ack> },
    /// The other end of a data connection is closed.
    LinkClosed { link: LinkId },
    /// The disk has taken a block.
    Consumed { stream: StreamId, offset: StreamOffset },
    /// The consumer has taken the whole stream.
    Synced { stream: StreamId },
    /// Local work of a node is done.
    StepDone { step: Step, life: u32 },
    /// The process is started again.
    Return,
    /// Data before this offset has come to a member from the group of its stream.
    FromGroup {
        stream: StreamId,
        until: StreamOffset,
        is_end: bool,
    },
    /// The sender looks for silent members.
    LookAtGroup { stream: StreamId },
    /// A member has noticed that the group is dark.
    Dark { stream: StreamId },
    /// The scenario's fault of this number strikes.
    Fault { number: usize },
}

impl Event {
    /// Returns the data connection of the event. `None` means the control connection.
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

/// A predecessor's answer to a greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Joined,
    /// The connection was closed without an answer.
    Closed,
    /// The data is gone. The predecessor's data begins at this offset.
    Gap(StreamOffset),
}

/// An event with its time and its host. `other` is the host at the far end of the network, if the event came
/// over one.
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
    /// Orders the earliest event as the greatest. Among equal times it is the one that was scheduled first,
    /// so that runs repeat exactly and connections keep their order.
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

    /// Puts an event off. It keeps its place among the events of its time.
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
