//! Receipts of a stream. Each node gives them to the nodes that keep data for it, except its neighbours.
//!
//! They are computed anew after every change of the chain, and the nodes for which they differ are told. The
//! neighbours are told first: until then a new successor is known as a node further down.
//!
//! Nothing is kept for a node that is done. In a stream with a multicast group it may have the end, and be
//! gone, before the nodes above it, and they would wait for its last receipt with full windows.

use std::collections::BTreeMap;

use super::super::NodeId;
use super::chain::Chain;
use super::course::Course;

/// The nodes above and below a node with which it shares a key, the nearest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::run) struct Near {
    pub(in crate::run) above: Vec<NodeId>,
    pub(in crate::run) below: Vec<NodeId>,
}

/// The nodes near to each node, as they were told last.
#[derive(Debug)]
pub(super) struct Receipts {
    /// Number of lost neighbours in a row that retained data bridges.
    tolerance: usize,
    near: BTreeMap<NodeId, Near>,
    /// True if the chain has changed since then.
    is_old: bool,
}

impl Receipts {
    pub(super) fn new(tolerance: usize, chain: &Chain) -> Self {
        Self {
            tolerance,
            near: all_near(chain, tolerance).into_iter().collect(),
            is_old: false,
        }
    }

    /// Returns the nodes near to this one, as it was told.
    pub(super) fn near(&self, node: NodeId) -> Option<&Near> {
        self.near.get(&node)
    }

    pub(super) const fn chain_has_changed(&mut self) {
        self.is_old = true;
    }

    /// Returns the nodes for which something changed since they were told. From now on they count as told.
    pub(super) fn take_changed(&mut self, course: &Course) -> Vec<(NodeId, Near)> {
        if !std::mem::take(&mut self.is_old) {
            return Vec::new();
        }
        let mut changed = Vec::new();
        for (node, mut near) in all_near(course.chain(), self.tolerance) {
            near.below.retain(|below| !course.is_done(*below));
            if self.near.get(&node) != Some(&near) {
                self.near.insert(node, near.clone());
                changed.push((node, near));
            }
        }
        changed
    }
}

/// Returns all nodes of the chain with the nodes near to each.
fn all_near(chain: &Chain, tolerance: usize) -> Vec<(NodeId, Near)> {
    let main: Vec<NodeId> = std::iter::once(NodeId::SERVER)
        .chain(chain.main().iter().copied())
        .collect();
    std::iter::once(main.as_slice())
        .chain(chain.branches())
        .flat_map(|piece| near(piece, tolerance))
        .collect()
}

/// Returns all nodes in this piece with the nodes near to each. The server's head of a branch is left out,
/// because it can give any byte again.
fn near(piece: &[NodeId], tolerance: usize) -> impl Iterator<Item = (NodeId, Near)> {
    piece.iter().enumerate().map(move |(index, node)| {
        let last = index.saturating_sub(1);
        let above = piece
            .get(last.saturating_sub(tolerance)..last)
            .unwrap_or_default();
        let below = piece.iter().skip(index + 2).take(tolerance);
        let near = Near {
            above: above.iter().rev().copied().collect(),
            below: below.copied().collect(),
        };
        (*node, near)
    })
}
