//! Nodes that lost their place in a stream that the driver keeps. They go on in the same round, each fed from
//! the spool by a head of its own. The chain was closed without them and does not wait for them.
//!
//! A *branch* is such a node with all nodes below it. It needs no window, because the spool has the data that
//! its first node misses from the beginning. So when that node is lost, the next one becomes the first of a
//! branch. Not here: the place of the spool, and the rate at which branches are fed (the driver).
//! Specification: `docs/protocol.md`, "Spool".

use std::collections::BTreeMap;

use super::super::{Duration, NodeId};
use super::chain::Chain;

/// Most branches and awaited nodes at once. Each branch takes the stream from the server once more. With more
/// of them the next round costs less, because there one chain serves all of them.
const MAX_STRAYS: usize = 4;

/// The state of the kept stream, and the nodes that may come back to it.
#[derive(Debug)]
pub(super) struct Spool {
    /// True if the driver still keeps the stream.
    is_kept: bool,
    /// Silent nodes that were taken out of the chain, each with the time of that.
    away: BTreeMap<NodeId, Duration>,
}

impl Spool {
    pub(super) const fn new(is_kept: bool) -> Self {
        Self {
            is_kept,
            away: BTreeMap::new(),
        }
    }

    /// Ends the spool: the stream is kept no longer.
    pub(super) const fn end(&mut self) {
        self.is_kept = false;
    }

    pub(super) fn has_room(&self, chain: &Chain) -> bool {
        self.is_kept && chain.branch_count() + self.away.len() < MAX_STRAYS
    }

    /// True if there is room to wait for this node. The head of a branch leaves its own room to the node
    /// below it.
    pub(super) fn may_await(&self, chain: &Chain, node: NodeId) -> bool {
        self.has_room(chain) || (self.is_kept && chain.is_branch(node) && chain.after(node).is_none())
    }

    pub(super) fn await_node(&mut self, now: Duration, node: NodeId) {
        self.away.insert(node, now);
    }

    pub(super) fn is_away(&self, node: NodeId) -> bool {
        self.away.contains_key(&node)
    }

    pub(super) fn away(&self) -> impl Iterator<Item = NodeId> {
        self.away.keys().copied()
    }

    /// Handles the answer to a ping that was sent at this time. Returns true if it shows that the node is
    /// back.
    pub(super) fn is_back(&mut self, node: NodeId, pinged_at: Duration) -> bool {
        let is_back = self.away.get(&node).is_some_and(|since| pinged_at > *since);
        if is_back {
            self.away.remove(&node);
        }
        is_back
    }

    pub(super) fn forget(&mut self, node: NodeId) {
        self.away.remove(&node);
    }
}
