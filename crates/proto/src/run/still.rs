//! Nodes that stand still while they have something to do.
//!
//! A node is measured by what itself has, not by how far the head is: those below one that stands still get nothing, and
//! have done nothing wrong.

use std::collections::BTreeMap;

use super::{Duration, NodeId, Progress, StreamOffset};

/// Since when one node stands still, and at what.
#[derive(Debug, Clone, Copy, Default)]
struct Clock {
    received: StreamOffset,
    consumed: StreamOffset,
    /// It says that it waits for its predecessor; with a full window it waits for somebody else.
    has_room: bool,
    moved_at: Duration,
    /// When it said how far it is, last.
    said_at: Duration,
    /// It has something to take and takes nothing.
    takes_nothing: Option<Duration>,
    /// The one before it has more, and nothing comes.
    gets_nothing: Option<Duration>,
}

/// Everybody's clocks in one stream.
#[derive(Debug, Default)]
pub(super) struct Still(BTreeMap<NodeId, Clock>);

impl Still {
    /// Everything before this was taken here.
    pub(super) fn consumed(&self, node: NodeId) -> StreamOffset {
        self.0.get(&node).copied().unwrap_or_default().consumed
    }

    /// Everything before this has arrived here.
    pub(super) fn received(&self, node: NodeId) -> StreamOffset {
        self.0.get(&node).copied().unwrap_or_default().received
    }

    /// Takes in how far a node is; true when its consumer took something. Only what is more than before counts.
    pub(super) fn note(&mut self, now: Duration, node: NodeId, progress: &Progress) -> bool {
        let clock = self.0.entry(node).or_default();
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

    /// Whether the one before this node has more than it, and nobody below this node can be what it waits for.
    pub(super) fn compare(&mut self, now: Duration, node: NodeId, lacks: bool) {
        let clock = self.0.entry(node).or_insert(Clock {
            has_room: true,
            moved_at: now,
            said_at: now,
            ..Clock::default()
        });
        clock.gets_nothing = lacks.then(|| clock.gets_nothing.unwrap_or(now));
    }

    /// It says that it has room for more.
    pub(super) fn has_room(&self, node: NodeId) -> bool {
        self.0.get(&node).is_none_or(|clock| clock.has_room)
    }

    /// When it said how far it is, last.
    pub(super) fn said_at(&self, node: NodeId) -> Duration {
        self.0.get(&node).copied().unwrap_or_default().said_at
    }

    /// The chain is another one: everybody has its time again.
    pub(super) fn begin_anew(&mut self, now: Duration) {
        for clock in self.0.values_mut() {
            (clock.moved_at, clock.said_at) = (now, now);
            clock.takes_nothing = clock.takes_nothing.map(|_| now);
            clock.gets_nothing = clock.gets_nothing.map(|_| now);
        }
    }

    /// The time in which the server was away counts for nobody.
    pub(super) fn excuse(&mut self, now: Duration, away: Duration) {
        let later = |at: Duration| (at + away).min(now);
        for clock in self.0.values_mut() {
            (clock.moved_at, clock.said_at) = (later(clock.moved_at), later(clock.said_at));
            clock.takes_nothing = clock.takes_nothing.map(later);
            clock.gets_nothing = clock.gets_nothing.map(later);
        }
    }

    /// Since when it takes nothing of what it has.
    pub(super) fn takes_nothing_since(&self, node: NodeId) -> Option<Duration> {
        self.0.get(&node)?.takes_nothing
    }

    /// Since when it gets nothing of what the one before it has.
    pub(super) fn gets_nothing_since(&self, node: NodeId) -> Option<Duration> {
        self.0.get(&node)?.gets_nothing
    }

    /// When something came to it, or was taken, last.
    pub(super) fn moved_at(&self, node: NodeId) -> Duration {
        self.0.get(&node).copied().unwrap_or_default().moved_at
    }
}
