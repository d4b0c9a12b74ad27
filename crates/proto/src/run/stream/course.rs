//! The progress of a stream.

use std::collections::BTreeMap;

use super::super::{Duration, NodeId, ReceivedStream, StreamOffset};
use super::chain::Chain;

/// The chain of a stream, what its head has produced, and the nodes that have everything.
#[derive(Debug)]
pub(super) struct Course {
    chain: Chain,
    produced: StreamOffset,
    /// True if the head will produce no more.
    has_ended: bool,
    /// Time at which the head last produced something, or reported the end.
    head_moved_at: Duration,
    done: BTreeMap<NodeId, ReceivedStream>,
}

impl Course {
    pub(super) const fn new(chain: Chain, now: Duration) -> Self {
        Self {
            chain,
            produced: StreamOffset(0),
            has_ended: false,
            head_moved_at: now,
            done: BTreeMap::new(),
        }
    }

    pub(super) const fn chain(&self) -> &Chain {
        &self.chain
    }

    pub(super) const fn chain_mut(&mut self) -> &mut Chain {
        &mut self.chain
    }

    pub(super) const fn produced(&self) -> StreamOffset {
        self.produced
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    pub(super) const fn head_moved_at(&self) -> Duration {
        self.head_moved_at
    }

    pub(super) fn note_produced(&mut self, now: Duration, produced: StreamOffset, has_ended: bool) {
        if (self.produced, self.has_ended) != (produced, has_ended) {
            (self.produced, self.has_ended, self.head_moved_at) = (produced, has_ended, now);
        }
    }

    pub(super) fn is_done(&self, node: NodeId) -> bool {
        self.done.contains_key(&node)
    }

    /// Returns the totals of a node that is done.
    pub(super) fn received(&self, node: NodeId) -> Option<ReceivedStream> {
        self.done.get(&node).copied()
    }

    pub(super) fn note_done(&mut self, node: NodeId, received: ReceivedStream) {
        self.done.insert(node, received);
    }
}
