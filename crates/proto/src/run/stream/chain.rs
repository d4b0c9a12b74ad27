//! The order in which a stream passes from node to node.

use std::collections::BTreeMap;

use super::super::NodeId;

/// The head of a branch: a node that a head of its own at the server feeds, from the spool.
#[derive(Debug, Clone, Copy, Default)]
struct Branch {
    /// True if the layer above knows that its link stands.
    is_told: bool,
}

/// The nodes that relay the stream now.
#[derive(Debug)]
pub(super) struct Chain {
    /// The main chain first. Each branch follows in one piece: its head, then the nodes below it.
    nodes: Vec<NodeId>,
    /// Heads of branches.
    branches: BTreeMap<NodeId, Branch>,
    /// Former nodes directly above each node, which are gone from the chain.
    formerly_above: BTreeMap<NodeId, Vec<NodeId>>,
}

/// The place of a node that was taken out of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Removed {
    pub(super) before: NodeId,
    pub(super) after: Option<NodeId>,
    /// True if it was the head of a branch.
    pub(super) was_branch: bool,
}

impl Chain {
    pub(super) const fn new(nodes: Vec<NodeId>) -> Self {
        Self {
            nodes,
            branches: BTreeMap::new(),
            formerly_above: BTreeMap::new(),
        }
    }

    /// Returns all nodes, in order.
    pub(super) fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// Returns the nodes that the main head feeds, in order.
    pub(super) fn main(&self) -> &[NodeId] {
        let end = self.nodes.iter().position(|node| self.is_branch(*node));
        self.nodes
            .get(..end.unwrap_or(self.nodes.len()))
            .unwrap_or_default()
    }

    /// Returns the branches, each with its head first.
    pub(super) fn branches(&self) -> impl Iterator<Item = &[NodeId]> {
        let rest = self.nodes.get(self.main().len()..).unwrap_or_default();
        rest.chunk_by(|_, next| !self.is_branch(*next))
    }

    /// Returns the number of branches.
    pub(super) fn branch_count(&self) -> usize {
        self.branches.len()
    }

    pub(super) fn contains(&self, node: NodeId) -> bool {
        self.nodes.contains(&node)
    }

    pub(super) fn is_in_main(&self, node: NodeId) -> bool {
        self.branches.is_empty() || self.main().contains(&node)
    }

    /// True if the node is the head of a branch.
    pub(super) fn is_branch(&self, node: NodeId) -> bool {
        self.branches.contains_key(&node)
    }

    fn index_of(&self, node: NodeId) -> Option<usize> {
        self.nodes.iter().position(|&other| other == node)
    }

    /// Returns the predecessor of a node. It is the server for the first node, for the head of a branch, and
    /// for a stranger.
    pub(super) fn before(&self, node: NodeId) -> NodeId {
        if self.is_branch(node) {
            return NodeId::SERVER;
        }
        let before = self.index_of(node).and_then(|index| index.checked_sub(1));
        before
            .and_then(|index| self.nodes.get(index))
            .copied()
            .unwrap_or(NodeId::SERVER)
    }

    /// Returns the successor of a node, or of the main head.
    pub(super) fn after(&self, node: NodeId) -> Option<NodeId> {
        let index = if node == NodeId::SERVER {
            0
        } else {
            self.index_of(node)? + 1
        };
        let after = self.nodes.get(index).copied();
        after.filter(|after| !self.is_branch(*after))
    }

    /// Returns the nodes directly above a node, in the past and now. Its data came through them.
    pub(super) fn above(&self, node: NodeId) -> Vec<NodeId> {
        let mut above = self.formerly_above.get(&node).cloned().unwrap_or_default();
        above.push(self.before(node));
        above
    }

    /// Takes a node out. Returns `None` if it is not in the chain.
    pub(super) fn remove(&mut self, node: NodeId) -> Option<Removed> {
        let index = self.index_of(node)?;
        let (before, after) = (self.before(node), self.after(node));
        self.nodes.remove(index);
        if let Some(after) = after {
            let mut above = self.formerly_above.remove(&node).unwrap_or_default();
            above.push(node);
            self.formerly_above.entry(after).or_default().extend(above);
        }
        let was_branch = self.branches.remove(&node).is_some();
        Some(Removed {
            before,
            after,
            was_branch,
        })
    }

    /// Puts a node that was away at the end. [`Self::branch_off`] follows.
    pub(super) fn append(&mut self, node: NodeId) {
        self.nodes.push(node);
    }

    /// Makes this node the head of a branch, with all nodes below it.
    pub(super) fn branch_off(&mut self, node: NodeId) {
        self.branches.insert(node, Branch::default());
    }

    /// Records that the link of a branch's head stands. Returns true the first time since it branched off.
    pub(super) fn note_rejoined(&mut self, node: NodeId) -> bool {
        let branch = self.branches.get_mut(&node);
        branch.is_some_and(|branch| !std::mem::replace(&mut branch.is_told, true))
    }
}
