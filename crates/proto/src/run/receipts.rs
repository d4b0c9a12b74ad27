//! Receipts of a stream: each node gives them to those that keep data for it, its neighbours left out.
//!
//! Computed anew after every change of the chain, and told to those for whom something is different. The neighbours are told
//! first: whom a node names as its new successor it still knows as one further down.

use super::{NodeId, Phase, Run, RunEvent, StreamId, ToNode};
use crate::auth;
use crate::link::{ReceiptKey, ReceiptKeys};

/// Those above and below a node that it shares a key with, the nearest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Near {
    above: Vec<NodeId>,
    below: Vec<NodeId>,
}

/// Everybody in this chain with those near to him, but the head of a branch, which can give any byte again.
fn near(chain: &[NodeId], tolerance: usize) -> impl Iterator<Item = (NodeId, Near)> {
    chain.iter().enumerate().map(move |(index, node)| {
        let last = index.saturating_sub(1);
        let above = chain
            .get(last.saturating_sub(tolerance)..last)
            .unwrap_or_default();
        let below = chain.iter().skip(index + 2).take(tolerance);
        let near = Near {
            above: above.iter().rev().copied().collect(),
            below: below.copied().collect(),
        };
        (*node, near)
    })
}

impl Run {
    /// Everybody in the chain with those near to him. Without healing nobody keeps anything for those further down.
    pub(super) fn all_near(&self) -> Vec<(NodeId, Near)> {
        let Phase::Streaming(run) = &self.phase else {
            return Vec::new();
        };
        let tolerance = if self.config.heal {
            usize::from(self.config.tolerance)
        } else {
            0
        };
        let main: Vec<NodeId> = std::iter::once(NodeId::SERVER)
            .chain(run.main_chain().iter().copied())
            .collect();
        let rest = run.chain.get(run.main_chain().len()..).unwrap_or_default();
        let branches = rest.chunk_by(|_, next| !run.branches.contains_key(next));
        std::iter::once(main.as_slice())
            .chain(branches)
            .flat_map(|chain| near(chain, tolerance))
            .collect()
    }

    /// The key of the receipts that `from` gives to `to`.
    pub(crate) fn receipt_key(&self, stream: StreamId, from: NodeId, to: NodeId) -> [u8; 32] {
        auth::receipt_key(&self.config.run_key, self.config.run, stream, (from, to))
    }

    /// The keys of a node's receipts.
    pub(super) fn receipt_keys(&self, stream: StreamId, node: NodeId, near: Option<&Near>) -> ReceiptKeys {
        let Some(near) = near else {
            return ReceiptKeys::default();
        };
        let key = |other: NodeId, (from, to)| ReceiptKey {
            node: other,
            key: self.receipt_key(stream, from, to),
        };
        ReceiptKeys {
            above: near
                .above
                .iter()
                .map(|&above| key(above, (node, above)))
                .collect(),
            below: near
                .below
                .iter()
                .map(|&below| key(below, (below, node)))
                .collect(),
        }
    }

    /// Tells everybody for whom it has changed who is near to him.
    pub(super) fn tell_who_is_near(&mut self) {
        let all = self.all_near();
        let Phase::Streaming(run) = &mut self.phase else {
            return;
        };
        run.near_is_old = false;
        let stream = run.stream;
        let mut changed = Vec::new();
        for (node, near) in all {
            if run.near.get(&node) != Some(&near) {
                run.near.insert(node, near.clone());
                changed.push((node, near));
            }
        }
        for (node, near) in changed {
            let keys = self.receipt_keys(stream, node, Some(&near));
            if node == NodeId::SERVER {
                self.event(RunEvent::HeadReceipts { stream, keys });
            } else {
                self.send(node, ToNode::Receipts { stream, keys });
            }
        }
    }
}
