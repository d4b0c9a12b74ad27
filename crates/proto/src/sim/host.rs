//! A host: its machines, its disk, its misfortunes.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::net::LinkId;
use crate::ids::{NodeId, StreamId, StreamOffset};
use crate::node::{Ending, Node};
use crate::relay::Relay;

use super::spent::Spent;

/// Blocks that a consumer works on at once: parallel writers finish in any order.
pub(super) const WRITERS: usize = 4;

/// Whether a host takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alive {
    Up,
    /// Its process stands still until then.
    Frozen(Duration),
    /// It ended in order: what it wrote still arrives.
    Left,
    /// Its process was killed: its kernel answers, but what was not yet on the wire is lost.
    Dead,
    /// Nothing answers.
    Gone,
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) alive: Alive,
    /// How often its process was started before.
    pub(super) life: u32,
    pub(super) cut_off_until: Duration,
    /// The server has none.
    pub(super) node: Option<Node>,
    pub(super) id: Option<NodeId>,
    pub(super) ending: Option<Ending>,
    pub(super) endpoint: Option<Endpoint>,
    /// Greetings for a stream that is not open here yet: they wait in the listening socket.
    pub(super) waiting_dials: Vec<LinkId>,
    pub(super) streams_done: u32,
    /// The most that an earlier life had of them.
    pub(super) most_streams_done: u32,
    /// Its process has a complete clone, which waits for its verdict or is bootable.
    pub(super) holds_clone: bool,
    /// Its disk can be booted.
    pub(super) is_bootable: bool,
    /// How many clones it has finished.
    pub(super) clones: u32,
    pub(super) wake_at: Option<Duration>,
    pub(super) next_progress: Duration,
    pub(super) hangs_in: Option<super::scenario::Step>,
    pub(super) fails_in: Option<super::scenario::Step>,
    pub(super) disk_stalled_until: Duration,
    /// Its processor has something to do.
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

    /// Whether its process is there.
    pub(super) const fn is_running(&self) -> bool {
        matches!(self.alive, Alive::Up | Alive::Frozen(_))
    }
}

/// One stream at one host: the relay and what its driver holds for it.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) stream: StreamId,
    pub(super) relay: Relay,
    /// Length and tag of every block that is held, by offset.
    pub(super) ring: BTreeMap<StreamOffset, (u32, u64)>,
    pub(super) up: Option<LinkId>,
    pub(super) dialing: Option<LinkId>,
    pub(super) down: Option<LinkId>,
    pub(super) disk: Disk,
    pub(super) over: bool,
}

/// The consumer of a stream. At the head it is not used.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) rate: u64,
    /// What the consumer must be given next.
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
