//! Nodes that stand still while they have work to do.
//!
//! A node is measured by its own data, not by the head's progress: the nodes below one that stands still get
//! nothing, and have done nothing wrong. When the stall timeout is over, one node is out, whatever the nodes
//! report.
//!
//! The server knows only the nodes' reports, and one of them may lie. So other nodes must confirm a report
//! that excuses a node. A node without room waits for a node below it, which then has less than itself. The
//! lowest node that has less than the one before it has no such excuse, so there is always one whose time
//! runs. If two neighbours contradict each other, the lower one goes first, because a liar may cost the nodes
//! below it a round, but no node above it anything. Then the upper one goes.

use std::collections::BTreeMap;

use super::super::{Duration, NodeId, Progress, StreamOffset};
use super::course::Course;

/// Interval of the checks for nodes that stand still.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The times since which one node stands still, by cause.
#[derive(Debug, Clone, Copy, Default)]
struct Clock {
    received: StreamOffset,
    consumed: StreamOffset,
    /// True if it reports that it waits for its predecessor. With a full window it waits for another node.
    has_room: bool,
    moved_at: Duration,
    /// Time of its last report of progress.
    said_at: Duration,
    /// Time since which it has data and takes nothing.
    takes_nothing: Option<Duration>,
    /// Time since which the node before it has more, and nothing comes.
    gets_nothing: Option<Duration>,
}

/// The clocks of all nodes in one stream.
#[derive(Debug)]
pub(super) struct Still {
    clocks: BTreeMap<NodeId, Clock>,
    /// Time that a node may stand still.
    stall: Duration,
    look_at: Duration,
}

/// The nodes whose time is up.
#[derive(Debug)]
pub(super) enum Stillness {
    /// These nodes take nothing, each since that time.
    TakeNothing(Vec<(NodeId, Duration)>),
    /// This node gets nothing since that time, and no other node is known to be the reason.
    GetsNothing(NodeId, Duration),
}

impl Still {
    pub(super) fn new(now: Duration, stall: Duration) -> Self {
        Self {
            clocks: BTreeMap::new(),
            stall,
            look_at: now + LOOK_INTERVAL,
        }
    }

    /// Returns the time at which [`Self::look`] must be called.
    pub(super) const fn look_at(&self) -> Duration {
        self.look_at
    }

    /// Returns the offset up to which this node's consumer has taken all data.
    pub(super) fn consumed(&self, node: NodeId) -> StreamOffset {
        self.clocks.get(&node).copied().unwrap_or_default().consumed
    }

    /// Returns the offset up to which all data has arrived at this node.
    fn received(&self, node: NodeId) -> StreamOffset {
        self.clocks.get(&node).copied().unwrap_or_default().received
    }

    /// Takes in the progress of a node. Returns true if its consumer took some data. Only growth counts.
    pub(super) fn note(&mut self, now: Duration, node: NodeId, progress: &Progress) -> bool {
        let clock = self.clocks.entry(node).or_default();
        clock.said_at = now;
        let (received, consumed) = (progress.received, progress.consumed.min(progress.received));
        if received > clock.received {
            (clock.received, clock.moved_at, clock.gets_nothing) = (received, now, None);
        }
        let took = consumed > clock.consumed;
        if took {
            (clock.consumed, clock.moved_at, clock.takes_nothing) = (consumed, now, None);
        }
        clock.has_room = progress.pace.upstream_ms >= progress.pace.elapsed_ms / 2;
        let is_behind = clock.consumed < clock.received;
        clock.takes_nothing = is_behind.then(|| clock.takes_nothing.unwrap_or(now));
        took
    }

    /// Starts or stops the clock of a node that gets nothing. `lacks` is true if the node before it has more,
    /// and it cannot be waiting for a node below it.
    fn compare(&mut self, now: Duration, node: NodeId, lacks: bool) {
        let clock = self.clocks.entry(node).or_insert(Clock {
            has_room: true,
            moved_at: now,
            said_at: now,
            ..Clock::default()
        });
        clock.gets_nothing = lacks.then(|| clock.gets_nothing.unwrap_or(now));
    }

    /// True if the node reports that it has room for more.
    pub(super) fn has_room(&self, node: NodeId) -> bool {
        self.clocks.get(&node).is_none_or(|clock| clock.has_room)
    }

    /// Returns the time of a node's last report of progress.
    fn said_at(&self, node: NodeId) -> Duration {
        self.clocks.get(&node).copied().unwrap_or_default().said_at
    }

    /// Starts all clocks again, because the chain has changed.
    pub(super) fn begin_anew(&mut self, now: Duration) {
        for clock in self.clocks.values_mut() {
            (clock.moved_at, clock.said_at) = (now, now);
            clock.takes_nothing = clock.takes_nothing.map(|_| now);
            clock.gets_nothing = clock.gets_nothing.map(|_| now);
        }
    }

    /// Excuses all nodes for the time in which the server was away.
    pub(super) fn excuse(&mut self, now: Duration, away: Duration) {
        let later = |at: Duration| (at + away).min(now);
        for clock in self.clocks.values_mut() {
            (clock.moved_at, clock.said_at) = (later(clock.moved_at), later(clock.said_at));
            clock.takes_nothing = clock.takes_nothing.map(later);
            clock.gets_nothing = clock.gets_nothing.map(later);
        }
    }

    /// Returns the time since which it takes nothing of its data.
    fn takes_nothing_since(&self, node: NodeId) -> Option<Duration> {
        self.clocks.get(&node)?.takes_nothing
    }

    /// Returns the time since which it gets nothing of the data of the node before it.
    fn gets_nothing_since(&self, node: NodeId) -> Option<Duration> {
        self.clocks.get(&node)?.gets_nothing
    }

    /// Returns the last time at which data came to a node, or its consumer took some.
    fn moved_at(&self, node: NodeId) -> Duration {
        self.clocks.get(&node).copied().unwrap_or_default().moved_at
    }

    /// Finds nodes that stand still while they have work to do. `report_timeout` is the time in which a node
    /// that has taken all may write it back. If no node has data to take, it is the link to the first node
    /// that gets nothing.
    pub(super) fn look(
        &mut self,
        now: Duration,
        course: &Course,
        active: &[NodeId],
        report_timeout: Duration,
    ) -> Stillness {
        self.look_at = now + LOOK_INTERVAL;
        self.compare_all(now, course, active);
        let stands_still =
            |node: &NodeId| Some((*node, self.stands_still(now, course, *node, report_timeout)?));
        let still: Vec<(NodeId, Duration)> = active.iter().filter_map(stands_still).collect();
        // A node that takes nothing is the reason for those that get nothing, and its time is up soon.
        let is_reason = |node: &NodeId| {
            let since = self.takes_nothing_since(*node);
            !course.is_done(*node) && since.is_some_and(|since| now >= since + self.stall / 2)
        };
        let has_reason = active.iter().any(is_reason);
        match self.gets_nothing(now, course, active) {
            Some((node, since)) if still.is_empty() && !has_reason => Stillness::GetsNothing(node, since),
            _ => Stillness::TakeNothing(still),
        }
    }

    /// Returns the bytes that are at a node. A node that is done has everything.
    fn has(&self, course: &Course, node: NodeId) -> StreamOffset {
        if node == NodeId::SERVER || course.is_done(node) {
            course.produced()
        } else {
            self.received(node)
        }
    }

    /// Returns the time since which this node has work and does nothing, if that is too long. A node that has
    /// taken all and not yet reported it writes back to its disk.
    fn stands_still(
        &self,
        now: Duration,
        course: &Course,
        node: NodeId,
        finishing: Duration,
    ) -> Option<Duration> {
        if course.is_done(node) {
            return None;
        }
        if let Some(since) = self.takes_nothing_since(node) {
            return Some(since).filter(|since| now >= *since + self.stall);
        }
        let has_all = course.has_ended() && self.has(course, node) >= course.produced();
        let since = self.moved_at(node).max(course.head_moved_at());
        Some(since).filter(|since| has_all && now >= *since + finishing)
    }

    /// Starts and stops the clocks of the nodes that get nothing. A relay that failed as a clone reports no
    /// progress, so it counts as a part of the line.
    fn compare_all(&mut self, now: Duration, course: &Course, active: &[NodeId]) {
        let chain = course.chain();
        let is_open = |node: &NodeId| active.contains(node) && !course.is_done(*node);
        // The nodes that have a node with less below them, up to the next branch.
        let (mut waits_below, mut least) = (Vec::new(), None::<StreamOffset>);
        for node in chain.nodes().iter().rev() {
            if is_open(node) {
                let has = self.has(course, *node);
                waits_below.push(least.is_some_and(|least| least < has));
                least = Some(least.map_or(has, |least| least.min(has)));
            }
            if chain.is_branch(*node) {
                least = None;
            }
        }
        let mut available = course.produced();
        for node in chain.nodes() {
            if chain.is_branch(*node) {
                available = course.produced();
            }
            if is_open(node) {
                let waits_below = waits_below.pop().unwrap_or_default();
                let has = self.has(course, *node);
                let is_excused = waits_below && !self.has_room(*node);
                self.compare(now, *node, available > has && !is_excused);
                available = has;
            } else if course.is_done(*node) {
                available = course.produced();
            }
        }
    }

    /// Returns the first node that gets nothing of the data of the node before it for too long, though it
    /// reports room. The nodes below it get nothing either. Otherwise returns the first node without room for
    /// which no other node is the reason.
    fn gets_nothing(&self, now: Duration, course: &Course, active: &[NodeId]) -> Option<(NodeId, Duration)> {
        let nodes = course.chain().nodes().iter();
        let open = nodes.filter(|node| active.contains(node) && !course.is_done(**node));
        let since = open.filter_map(|node| Some((*node, self.gets_nothing_since(*node)?)));
        let late: Vec<_> = since.filter(|(_, since)| now >= *since + self.stall).collect();
        let has_room = late.iter().find(|(node, _)| self.has_room(*node));
        has_room.or_else(|| late.first()).copied()
    }

    /// True if it has not reported its progress for long. All nodes report it until they are done.
    pub(super) fn is_mute(&self, now: Duration, course: &Course, node: NodeId) -> bool {
        node != NodeId::SERVER && !course.is_done(node) && now >= self.said_at(node) + self.stall
    }
}
