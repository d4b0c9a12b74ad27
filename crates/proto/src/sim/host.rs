//! A host: its machines, its disk, its faults.

use std::collections::VecDeque;
use std::time::Duration;

use super::net::LinkId;
use super::ring::Ring;
use crate::ids::{NodeId, StreamId, StreamOffset};
use crate::node::{Ending, Node};
use crate::relay::Relay;

use super::spent::Spent;

/// Number of blocks that a consumer works on at once. Parallel writers finish in any order.
pub(super) const WRITERS: usize = 4;

/// The state of a host's process and machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alive {
    Up,
    /// The process stands still until that time.
    Frozen(Duration),
    /// The process ended in order. Its written data still arrives.
    Left,
    /// The process was killed. Its kernel answers, but data that was not yet on the wire is lost.
    Dead,
    /// Nothing answers.
    Gone,
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) alive: Alive,
    /// Number of earlier starts of its process.
    pub(super) life: u32,
    pub(super) cut_off_until: Duration,
    /// The node's machine. The server has none.
    pub(super) node: Option<Node>,
    pub(super) id: Option<NodeId>,
    pub(super) ending: Option<Ending>,
    /// It is boxed, because the pump takes it out for each event.
    pub(super) endpoint: Option<Box<Endpoint>>,
    /// Greetings for a stream that is not open here yet. They wait in the listening socket.
    pub(super) waiting_dials: Vec<LinkId>,
    pub(super) streams_done: u32,
    /// Most streams that an earlier life has finished.
    pub(super) most_streams_done: u32,
    /// True if its process has a complete clone, which waits for its verdict or is bootable.
    pub(super) holds_clone: bool,
    /// True if its disk can be booted.
    pub(super) is_bootable: bool,
    /// Number of clones that it has finished.
    pub(super) clones: u32,
    pub(super) wake_at: Option<Duration>,
    pub(super) next_progress: Duration,
    pub(super) hangs_in: Option<super::scenario::Step>,
    pub(super) fails_in: Option<super::scenario::Step>,
    pub(super) disk_stalled_until: Duration,
    /// Time until which its processor is busy.
    pub(super) working_until: Duration,
    pub(super) spent: Spent,
}

impl Host {
    pub(super) const fn new() -> Self {
        Self {
            alive: Alive::Up,
            life: 0,
            cut_off_until: Duration::ZERO,
            node: None,
            id: None,
            ending: None,
            endpoint: None,
            waiting_dials: Vec::new(),
            streams_done: 0,
            most_streams_done: 0,
            holds_clone: false,
            is_bootable: false,
            clones: 0,
            wake_at: None,
            next_progress: Duration::ZERO,
            hangs_in: None,
            fails_in: None,
            disk_stalled_until: Duration::ZERO,
            working_until: Duration::ZERO,
            spent: Spent::new(),
        }
    }

    /// True if its process exists.
    pub(super) const fn is_running(&self) -> bool {
        matches!(self.alive, Alive::Up | Alive::Frozen(_))
    }
}

/// One stream at one host: the relay, and the data that its driver holds for it.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) stream: StreamId,
    pub(super) relay: Relay,
    pub(super) ring: Ring,
    pub(super) up: Option<LinkId>,
    pub(super) dialing: Option<LinkId>,
    pub(super) down: Option<LinkId>,
    pub(super) disk: Disk,
    pub(super) over: bool,
}

/// The consumer of a stream. The head does not use it.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) rate: u64,
    /// Offset of the next block for the consumer.
    pub(super) next: StreamOffset,
    pub(super) queue: VecDeque<(StreamOffset, u32)>,
    pub(super) busy: usize,
    pub(super) free_at: Duration,
    pub(super) ended: bool,
    pub(super) syncing: bool,
    pub(super) failed: bool,
}

impl Disk {
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.busy == 0
    }
}
