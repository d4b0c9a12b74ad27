//! The nodes of a run and what became of each. Pure: no clock, no socket.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ka_status::run::NodeRef;
use ka_status::summary::{NodeOutcome, NodeSummary};
use ka_transport::NodeInfo;

/// Every node that was ever accepted.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    nodes: BTreeMap<u32, Entry>,
}

#[derive(Debug)]
struct Entry {
    node: NodeRef,
    addr: IpAddr,
    outcome: Option<NodeOutcome>,
}

impl Roster {
    /// Takes in a node as it joins. Its place is the one it has among those present, until the order is final.
    pub(crate) fn join(&mut self, info: &NodeInfo) -> NodeRef {
        self.nodes.insert(
            info.id.0,
            Entry {
                node: node_ref(info),
                addr: info.addr,
                outcome: None,
            },
        );
        let present = self.nodes.values().filter(|entry| entry.outcome.is_none());
        let before = present
            .filter(|entry| (entry.addr, entry.node.id) <= (info.addr, info.id.0))
            .count();
        let mut node = node_ref(info);
        node.position = u32::try_from(before).unwrap_or(u32::MAX);
        node
    }

    /// Forgets a node that went away before the run began. `None` when it has an outcome already or is unknown.
    pub(crate) fn leave(&mut self, id: u32) -> Option<NodeRef> {
        let entry = self.nodes.remove(&id)?;
        if entry.outcome.is_some() {
            self.nodes.insert(id, entry);
            return None;
        }
        Some(entry.node)
    }

    /// The chain is ordered: `infos` have their final places.
    pub(crate) fn order(&mut self, infos: &[NodeInfo]) -> Vec<NodeRef> {
        infos
            .iter()
            .map(|info| {
                let entry = Entry {
                    node: node_ref(info),
                    addr: info.addr,
                    outcome: None,
                };
                let entry = self.nodes.entry(info.id.0).or_insert(entry);
                entry.node = node_ref(info);
                entry.node.clone()
            })
            .collect()
    }

    /// The node with this number.
    pub(crate) fn find(&self, id: u32) -> Option<NodeRef> {
        self.nodes.get(&id).map(|entry| entry.node.clone())
    }

    /// Settles a node's outcome. The first one counts: a node that reported a good clone and then lost its
    /// connection is done. `None` when it had one already or is unknown.
    pub(crate) fn settle(&mut self, id: u32, outcome: NodeOutcome) -> Option<NodeRef> {
        let entry = self.nodes.get_mut(&id)?;
        if entry.outcome.is_some() {
            return None;
        }
        entry.outcome = Some(outcome);
        Some(entry.node.clone())
    }

    /// Nodes that are still in.
    pub(crate) fn unsettled(&self) -> Vec<NodeRef> {
        self.nodes
            .values()
            .filter(|entry| entry.outcome.is_none())
            .map(|entry| entry.node.clone())
            .collect()
    }

    /// All nodes with their outcomes in chain order; those without a place come first.
    pub(crate) fn summaries(&self) -> Vec<NodeSummary> {
        let mut all: Vec<_> = self.nodes.values().collect();
        all.sort_by_key(|entry| (entry.node.position, entry.addr, entry.node.id));
        let summary = |entry: &&Entry| {
            let outcome = entry.outcome.clone()?;
            Some(NodeSummary {
                node: entry.node.clone(),
                outcome,
            })
        };
        all.iter().filter_map(summary).collect()
    }
}

fn node_ref(info: &NodeInfo) -> NodeRef {
    NodeRef {
        id: info.id.0,
        name: info.name.clone(),
        addr: info.addr.to_string(),
        position: info.position.0,
    }
}

#[cfg(test)]
mod tests {
    use ka_proto::{ChainPosition, NodeId};
    use ka_status::report::NodeReport;
    use ka_status::summary::NodeOutcome;
    use ka_transport::NodeInfo;

    use super::Roster;

    fn info(id: u32, last: u8, position: u32) -> NodeInfo {
        NodeInfo {
            id: NodeId(id),
            name: format!("n{id}"),
            addr: [10, 0, 1, last].into(),
            mac: None,
            position: ChainPosition(position),
            wants_release: false,
        }
    }

    fn failed(reason: &str) -> NodeOutcome {
        NodeOutcome::Failed {
            stage: "formatting".into(),
            reason: reason.into(),
        }
    }

    #[test]
    fn an_arriving_node_is_told_its_place_by_address_and_not_by_time() {
        let mut roster = Roster::default();
        assert_eq!(roster.join(&info(1, 9, 0)).position, 1);
        assert_eq!(roster.join(&info(2, 100, 0)).position, 2);
        assert_eq!(roster.join(&info(3, 10, 0)).position, 2);
    }

    #[test]
    fn the_first_outcome_of_a_node_counts() {
        let mut roster = Roster::default();
        roster.join(&info(1, 1, 0));
        roster.order(&[info(1, 1, 1)]);
        let done = NodeOutcome::Done {
            report: NodeReport::default(),
        };
        assert!(roster.settle(1, done.clone()).is_some());
        assert!(roster.settle(1, failed("connection lost")).is_none());
        assert_eq!(roster.summaries()[0].outcome, done);
        assert!(roster.unsettled().is_empty());
        assert!(roster.settle(77, failed("who?")).is_none());
    }

    #[test]
    fn the_summary_is_in_chain_order() {
        let mut roster = Roster::default();
        for (id, last) in [(1, 30), (2, 20), (3, 10)] {
            roster.join(&info(id, last, 0));
        }
        roster.order(&[info(3, 10, 1), info(2, 20, 2), info(1, 30, 3)]);
        for id in 1..=3 {
            roster.settle(id, failed("x"));
        }
        let ids: Vec<_> = roster.summaries().iter().map(|summary| summary.node.id).collect();
        assert_eq!(ids, [3, 2, 1]);
    }
}
