//! Nodes that a neighbour does not hear. Each is asked at once, and its answer, or the lack of one, decides.
//!
//! A link that is given up by mistake costs next to nothing this way: the node answers within a round trip,
//! and the same two are joined again. Two witnesses are needed to give up a node, its neighbour and the
//! server.

use super::super::roster::Roster;
use super::super::{Duration, NodeId, Reason, Side};
use super::{Effect, Effects, Stream, neighbour};

/// A neighbour that does not hear the suspect, on one side, with the fault that it saw.
#[derive(Debug, Clone)]
pub(in crate::run) struct Witness {
    pub(in crate::run) node: NodeId,
    pub(in crate::run) side: Side,
    pub(in crate::run) reason: Reason,
}

/// A node that was asked if it lives.
#[derive(Debug)]
pub(in crate::run) struct Suspect {
    pub(in crate::run) node: NodeId,
    /// The neighbour that does not hear it. `None` if the chain was closed beside it and no node has tried to
    /// reach it yet.
    pub(in crate::run) witness: Option<Witness>,
}

impl Suspect {
    /// True for the same node, by the same witness on the same side.
    fn is_same(&self, other: &Self) -> bool {
        self.node == other.node
            && match (&self.witness, &other.witness) {
                (Some(one), Some(two)) => (one.node, one.side) == (two.node, two.side),
                (one, two) => one.is_none() && two.is_none(),
            }
    }
}

/// The nodes of a stream that were asked and have not answered since.
#[derive(Debug, Default)]
pub(super) struct Suspects(Vec<Suspect>);

impl Suspects {
    pub(super) fn add(&mut self, suspect: Suspect) {
        self.0.retain(|other| !other.is_same(&suspect));
        self.0.push(suspect);
    }

    /// Forgets a node that is gone. It is asked no more, and its own reports count no longer.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.0.retain(|suspect| {
            let witness = suspect.witness.as_ref();
            suspect.node != node && witness.is_none_or(|witness| witness.node != node)
        });
    }

    /// Clears a node that has answered. Returns the neighbours that did not hear it.
    pub(super) fn acquit(&mut self, node: NodeId) -> Vec<Witness> {
        let (acquitted, others): (Vec<_>, _) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|suspect| suspect.node == node);
        self.0 = others;
        acquitted
            .into_iter()
            .filter_map(|suspect| suspect.witness)
            .collect()
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.0.iter().map(|suspect| suspect.node)
    }

    /// Takes out the first suspect that `is_silent`.
    pub(super) fn take(&mut self, is_silent: impl Fn(NodeId) -> bool) -> Option<Suspect> {
        let index = self.0.iter().position(|suspect| is_silent(suspect.node))?;
        Some(self.0.remove(index))
    }
}

/// Suspects: nodes that a neighbour does not hear.
impl Stream {
    /// Asks a node if it lives. Its link stays as it is until it answers. If it does not answer, it is lost.
    pub(super) fn suspect(&mut self, node: NodeId, witness: Option<Witness>, effects: &mut Effects) {
        if self.course.chain().contains(node) {
            self.suspects.add(Suspect { node, witness });
            effects.push(Effect::Ping(node));
        }
    }

    /// Returns the nodes that were asked if they live.
    pub(in crate::run) fn suspects(&self) -> impl Iterator<Item = NodeId> {
        self.suspects.nodes()
    }

    /// Takes out the first suspect that `is_silent`.
    pub(in crate::run) fn take_suspect(&mut self, is_silent: impl Fn(NodeId) -> bool) -> Option<Suspect> {
        self.suspects.take(is_silent)
    }

    /// Clears a node that sent a message, so it lives. Returns the neighbours that lost their links to it.
    /// Each link is mended ([`Self::mend_between`]).
    pub(in crate::run) fn acquit(&mut self, node: NodeId) -> Vec<Witness> {
        self.suspects.acquit(node)
    }

    /// Makes the link of the witness to this node again, if the two are still neighbours. The chain may have
    /// been closed around one of them meanwhile.
    pub(in crate::run) fn mend_between(
        &mut self,
        now: Duration,
        roster: &Roster,
        node: NodeId,
        witness: &Witness,
    ) -> Effects {
        if neighbour(self.course.chain(), witness) == Some(node) {
            self.mend(now, roster, witness)
        } else {
            Effects::new()
        }
    }
}
