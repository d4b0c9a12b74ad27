//! The members of a stream's multicast group, and those that have left it.
//!
//! A node that leaves stays in the chain, where its predecessor feeds it. Not here: the sender's view of the
//! members ([`crate::group`]).

use std::collections::BTreeSet;

use super::super::{Duration, HeadOrder, NodeId, Reason};
use super::{Effect, Effects, Stream};
use crate::group::Report as GroupReport;

/// Time for which further leavers are awaited before the operator is told. A group that goes dark takes all
/// members of a segment at once.
const TOLD_AFTER: Duration = Duration::from_millis(500);

/// Nodes that left the group for one reason.
#[derive(Debug)]
struct Leavers {
    since: Duration,
    reason: Reason,
    nodes: Vec<NodeId>,
}

/// The members of a group.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// True if the stream has a group at all.
    exists: bool,
    members: BTreeSet<NodeId>,
    /// Leavers of whom the operator has not been told.
    leavers: Vec<Leavers>,
}

impl Group {
    pub(super) fn new(members: Vec<NodeId>) -> Self {
        Self {
            exists: !members.is_empty(),
            members: members.into_iter().collect(),
            leavers: Vec::new(),
        }
    }

    /// Returns the members.
    pub(super) fn members(&self) -> impl Iterator<Item = NodeId> {
        self.members.iter().copied()
    }

    /// True if the stream has a group, whoever has left it.
    pub(super) const fn exists(&self) -> bool {
        self.exists
    }

    /// True if the node is a member.
    pub(super) fn has(&self, node: NodeId) -> bool {
        self.members.contains(&node)
    }

    /// Removes a node that is lost. Returns true if it was a member.
    pub(super) fn remove(&mut self, node: NodeId) -> bool {
        self.members.remove(&node)
    }

    /// Removes a member that lives, and keeps its reason. Returns true if it was a member.
    pub(super) fn leave(&mut self, now: Duration, node: NodeId, reason: &Reason) -> bool {
        if !self.members.remove(&node) {
            return false;
        }
        match self.leavers.iter_mut().find(|leavers| leavers.reason == *reason) {
            Some(leavers) => leavers.nodes.push(node),
            None => self.leavers.push(Leavers {
                since: now,
                reason: reason.clone(),
                nodes: vec![node],
            }),
        }
        true
    }

    /// Returns the time at which [`Self::take_leavers`] has something to tell.
    pub(super) fn due(&self) -> Option<Duration> {
        self.leavers.first().map(|leavers| leavers.since + TOLD_AFTER)
    }

    /// Returns nodes that left for one reason, if it is time to tell, with the number of members that are left.
    pub(super) fn take_leavers(&mut self, now: Duration) -> Option<(Vec<NodeId>, Reason, usize)> {
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        let Leavers { nodes, reason, .. } = self.leavers.remove(0);
        Some((nodes, reason, self.members.len()))
    }
}

impl Stream {
    /// Returns the members of the group.
    pub(in crate::run) fn group_members(&self) -> Vec<NodeId> {
        self.group.members().collect()
    }

    /// Passes the state of a member to the head, which sends to the group.
    pub(in crate::run) fn handle_group_report(&self, node: NodeId, report: GroupReport) -> Effects {
        let stream = self.id;
        let order = self
            .group
            .has(node)
            .then_some(HeadOrder::GroupReport { stream, node, report });
        order.into_iter().map(Effect::Head).collect()
    }

    /// Handles that a member has left the group by itself, or that the head takes it out.
    pub(in crate::run) fn handle_left_group(
        &mut self,
        now: Duration,
        node: NodeId,
        reason: &Reason,
    ) -> Effects {
        if !self.group.leave(now, node, reason) {
            return Effects::new();
        }
        let stream = self.id;
        vec![Effect::Head(HeadOrder::LeftGroup { stream, node })]
    }

    /// Returns the time at which [`Self::take_leavers`] must be called.
    pub(in crate::run) fn leavers_due(&self) -> Option<Duration> {
        self.group.due()
    }

    /// Returns the nodes that left the group together and for the same reason, if it is time to tell, with the
    /// number of members that are left.
    pub(in crate::run) fn take_leavers(&mut self, now: Duration) -> Option<(Vec<NodeId>, Reason, usize)> {
        self.group.take_leavers(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_leave_together_are_told_of_together() {
        let nodes: Vec<NodeId> = (1..=4).map(NodeId).collect();
        let mut group = Group::new(nodes.clone());
        let dark = Reason::new("it hears nothing");
        for (node, ms) in [(1, 0), (2, 100), (3, 499)] {
            assert!(group.leave(Duration::from_millis(ms), NodeId(node), &dark));
        }
        assert!(
            !group.leave(Duration::ZERO, NodeId(1), &dark),
            "it has left already"
        );
        assert!(group.take_leavers(Duration::from_millis(499)).is_none());
        let told = group.take_leavers(Duration::from_millis(500));
        assert_eq!(told, Some((nodes[..3].to_vec(), dark, 1)));
        assert!(group.due().is_none() && group.has(NodeId(4)));
    }
}
