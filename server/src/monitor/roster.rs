//! The nodes of a run and the outcome of each. Pure: no clock, no socket.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ka_mac::MacAddr;
use ka_proto::identity::Identity;
use ka_proto::run::NodeInfo;
use ka_report::boot::{FirstBoot, SeenBy};
use ka_report::event::Step;
use ka_report::run::NodeRef;
use ka_report::spool::Rejoined;
use ka_report::summary::{NodeOutcome, NodeSummary};

use crate::unfinished::Done;

/// Most rejoins kept of each node. A line that breaks more often is known to be bad.
const MAX_REJOINED: usize = 20;

/// Every node that was ever accepted.
#[derive(Debug, Default)]
pub(super) struct Roster {
    nodes: BTreeMap<u32, Entry>,
    /// Nodes that wait for the next round.
    queued: BTreeMap<u32, NodeRef>,
    /// Number of rounds that are over.
    rounds_over: u32,
}

#[derive(Debug)]
struct Entry {
    node: NodeRef,
    addr: IpAddr,
    mac: Option<MacAddr>,
    /// Round in which the node takes part, or took part.
    round: u32,
    /// True if the node was lost and may come back.
    again: bool,
    /// True if the node has reported a step of its work in this round.
    has_begun: bool,
    /// True if the node has begun to write its disks.
    writes: bool,
    outcome: Option<NodeOutcome>,
    /// Places at which the node went on from the spool.
    rejoined: Vec<Rejoined>,
    first_boot: Option<FirstBoot>,
    /// True if the node was released and its connection is closed.
    is_gone: bool,
    /// True if the operator knows that the clone's system has asked for an address.
    is_coming_up: bool,
}

impl Entry {
    fn new(info: &NodeInfo, round: u32) -> Self {
        Self {
            round,
            again: false,
            has_begun: false,
            writes: false,
            node: node_ref(info),
            addr: info.addr.ip(),
            mac: info.mac,
            outcome: None,
            rejoined: Vec::new(),
            first_boot: None,
            is_gone: false,
            is_coming_up: false,
        }
    }

    fn identity(&self) -> Identity {
        Identity {
            mac: self.mac,
            name: self.node.name.clone(),
            addr: self.addr,
        }
    }
}

impl Roster {
    /// Adds a node as it joins. Its place counts the nodes present, until the order is final.
    pub(super) fn join(&mut self, info: &NodeInfo) -> NodeRef {
        self.queued.remove(&info.id.0);
        let round = self.rounds_over + 1;
        self.nodes.insert(info.id.0, Entry::new(info, round));
        let present = self.nodes.values().filter(|entry| entry.outcome.is_none());
        let before = present
            .filter(|entry| (entry.addr, entry.node.id) <= (info.addr.ip(), info.id.0))
            .count();
        let mut node = node_ref(info);
        node.position = u32::try_from(before).unwrap_or(u32::MAX);
        node
    }

    /// Removes a node that left before the run began. Returns `None` if it has an outcome already or is
    /// unknown.
    pub(super) fn leave(&mut self, id: u32) -> Option<NodeRef> {
        if let Some(node) = self.queued.remove(&id) {
            return Some(node);
        }
        let entry = self.nodes.remove(&id)?;
        if entry.outcome.is_some() {
            self.nodes.insert(id, entry);
            return None;
        }
        Some(entry.node)
    }

    /// Orders the chain: `infos` have their final places.
    pub(super) fn order(&mut self, infos: &[NodeInfo]) -> Vec<NodeRef> {
        let round = self.rounds_over + 1;
        infos
            .iter()
            .map(|info| {
                let entry = self.nodes.entry(info.id.0);
                let entry = entry.or_insert_with(|| Entry::new(info, round));
                entry.node = node_ref(info);
                entry.node.clone()
            })
            .collect()
    }

    /// Returns the node with this number.
    pub(super) fn find(&self, id: u32) -> Option<NodeRef> {
        self.nodes.get(&id).map(|entry| entry.node.clone())
    }

    /// Settles a node's outcome. The first one counts: a node that reported a good clone and then lost its
    /// connection is done. Returns `None` if it had an outcome already or is unknown.
    pub(super) fn settle(&mut self, id: u32, outcome: NodeOutcome) -> Option<NodeRef> {
        let entry = self.nodes.get_mut(&id)?;
        if entry.outcome.is_some() {
            return None;
        }
        entry.outcome = Some(outcome);
        Some(entry.node.clone())
    }

    /// Adds a node that was done before the server was started again. It counts as of round 0.
    pub(super) fn know_done(&mut self, id: u32, done: &Done) -> NodeRef {
        let node = NodeRef {
            id,
            name: done.identity.name.clone(),
            addr: done.identity.addr.to_string(),
            position: 0,
        };
        let entry = Entry {
            node: node.clone(),
            addr: done.identity.addr,
            mac: done.identity.mac,
            round: 0,
            again: false,
            has_begun: false,
            writes: false,
            outcome: Some(NodeOutcome::Done {
                report: done.report.clone(),
            }),
            rejoined: Vec::new(),
            first_boot: None,
            is_gone: false,
            is_coming_up: false,
        };
        self.nodes.insert(id, entry);
        node
    }

    /// Adds a node that waits for the next round.
    pub(super) fn queue(&mut self, info: &NodeInfo) -> NodeRef {
        let node = node_ref(info);
        self.queued.insert(info.id.0, node.clone());
        node
    }

    /// Records a step of a node. Its disks are written from the first partition table on.
    pub(super) fn works(&mut self, id: u32, step: Step) {
        if let Some(entry) = self.nodes.get_mut(&id) {
            entry.has_begun = true;
            entry.writes |= step == Step::Partition;
        }
    }

    /// Returns a node of this name that is done and had another address than `addr`.
    pub(super) fn done_elsewhere(&self, name: &str, addr: IpAddr) -> Option<NodeRef> {
        let is_it = |entry: &&Entry| {
            entry.node.name == name
                && entry.addr != addr
                && matches!(entry.outcome, Some(NodeOutcome::Done { .. }))
        };
        self.nodes.values().find(is_it).map(|entry| entry.node.clone())
    }

    /// Records that a lost node may come back.
    pub(super) fn may_return(&mut self, id: u32) {
        if let Some(entry) = self.nodes.get_mut(&id) {
            entry.again = true;
        }
    }

    /// Ends the round. Returns the number of nodes that wait for the next one, and of lost nodes that are not
    /// among them.
    pub(super) fn end_round(&mut self) -> (usize, usize) {
        let of_round = self.rounds_over + 1;
        self.rounds_over += 1;
        let is_waiting = |node: &NodeRef| {
            let mut queued = self.queued.values();
            queued.any(|queued| (&queued.name, &queued.addr) == (&node.name, &node.addr))
        };
        let lost = self
            .nodes
            .values()
            .filter(|entry| entry.round == of_round && entry.again && !is_waiting(&entry.node));
        (self.queued.len(), lost.count())
    }

    /// Removes the outcome of a node that was done, because of a later finding. Other outcomes stay.
    pub(super) fn revoke(&mut self, id: u32) {
        if let Some(entry) = self.nodes.get_mut(&id)
            && matches!(entry.outcome, Some(NodeOutcome::Done { .. }))
        {
            entry.outcome = None;
            entry.first_boot = None;
        }
    }

    /// Returns the nodes of this round without an outcome.
    pub(super) fn unsettled(&self) -> Vec<NodeRef> {
        self.nodes
            .values()
            .filter(|entry| entry.outcome.is_none())
            .map(|entry| entry.node.clone())
            .collect()
    }

    /// Records that a node went on from the spool. If a line breaks all the time, the last places are kept.
    pub(super) fn rejoined(&mut self, id: u32, rejoined: Rejoined) -> Option<NodeRef> {
        let entry = self.nodes.get_mut(&id)?;
        if entry.rejoined.len() >= MAX_REJOINED {
            entry.rejoined.remove(0);
        }
        entry.rejoined.push(rejoined);
        Some(entry.node.clone())
    }

    /// Records a node's MAC address, which the node did not give itself.
    pub(super) fn learn_mac(&mut self, id: u32, mac: MacAddr) {
        if let Some(entry) = self.nodes.get_mut(&id) {
            entry.mac = Some(mac);
        }
    }

    /// Records the release. From now on the clones are missing until they are seen. Returns their number.
    pub(super) fn expect_boots(&mut self) -> usize {
        let is_done = |entry: &&mut Entry| {
            entry.first_boot.is_none()
                && entry.round > 0
                && matches!(entry.outcome, Some(NodeOutcome::Done { .. }))
        };
        let clones = self.nodes.values_mut().filter(is_done);
        clones
            .map(|entry| entry.first_boot = Some(FirstBoot::NeverCameBack))
            .count()
    }

    /// Returns the number of clones that have not been seen yet.
    pub(super) fn missing_boots(&self) -> usize {
        let is_missing = |entry: &&Entry| entry.first_boot == Some(FirstBoot::NeverCameBack);
        self.nodes.values().filter(is_missing).count()
    }

    /// Records that a released node has closed its connection.
    pub(super) fn gone(&mut self, id: u32) {
        if let Some(entry) = self.nodes.get_mut(&id) {
            entry.is_gone = true;
        }
    }

    /// Returns the number of nodes that wait for the next round.
    pub(super) fn waiting(&self) -> usize {
        self.queued.len()
    }

    /// Returns the number under which the clone is awaited whose beacon holds number `id`. Its node may have
    /// lost its server and come back under another number.
    pub(super) fn cloned_as(&self, id: u32, name: &str, mac: Option<MacAddr>) -> u32 {
        let is_it = |entry: &Entry| {
            entry.first_boot.is_some() && entry.node.name == name && (mac.is_none() || entry.mac == mac)
        };
        if self.nodes.get(&id).is_some_and(is_it) {
            return id;
        }
        let mut others = self.nodes.iter().filter(|(_, entry)| is_it(entry));
        others.next().map_or(id, |(other, _)| *other)
    }

    /// Returns the evidence of a request for an address, under this name, from this node's card.
    pub(super) fn asks_for_address(&mut self, id: u32, host_name: Option<&str>) -> Asking {
        let Some(entry) = self.nodes.get_mut(&id) else {
            return Asking::Nothing;
        };
        let Some(NodeOutcome::Done { report }) = &entry.outcome else {
            return Asking::Nothing;
        };
        if entry.first_boot != Some(FirstBoot::NeverCameBack) || !entry.is_gone {
            return Asking::Nothing;
        }
        let says = report
            .identity
            .as_ref()
            .and_then(|identity| identity.host_name.as_deref());
        let own = says.unwrap_or(&entry.node.name);
        if !host_name.is_some_and(|name| is_same_host(name, own)) {
            return Asking::Nothing;
        }
        if !report.beacon {
            return Asking::Proof;
        }
        if std::mem::replace(&mut entry.is_coming_up, true) {
            return Asking::Nothing;
        }
        Asking::ComingUp(entry.node.clone())
    }

    /// Records that a clone was seen. Returns `None` if the run does not wait for it, or it was seen before.
    pub(super) fn came_back(&mut self, id: u32, seen_by: SeenBy, after_ms: u64) -> Option<NodeRef> {
        let entry = self.nodes.get_mut(&id)?;
        if entry.first_boot != Some(FirstBoot::NeverCameBack) {
            return None;
        }
        entry.first_boot = Some(FirstBoot::Booted { seen_by, after_ms });
        Some(entry.node.clone())
    }

    /// Returns the number of the node with this MAC address.
    pub(super) fn id_of(&self, mac: MacAddr) -> Option<u32> {
        let mut nodes = self.nodes.iter();
        nodes.find(|(_, entry)| entry.mac == Some(mac)).map(|(id, _)| *id)
    }

    /// Returns all nodes with their outcomes, by round and in chain order; nodes without a place come first.
    /// A node of several rounds is listed once, with its last outcome: lost in the first and done in the
    /// second is done.
    pub(super) fn summaries(&self) -> Vec<NodeSummary> {
        let mut all: Vec<_> = self
            .nodes
            .values()
            .filter(|entry| !self.has_later(entry) && !self.passed_by(entry))
            .collect();
        all.sort_by_key(|entry| (entry.round, entry.node.position, entry.addr, entry.node.id));
        let summary = |entry: &&Entry| {
            let outcome = entry.outcome.clone()?;
            Some(NodeSummary {
                node: entry.node.clone(),
                round: entry.round,
                mac: entry.mac.map(|mac| mac.to_string()),
                erased: self.has_erased(entry) && !matches!(outcome, NodeOutcome::Done { .. }),
                outcome,
                rejoined: entry.rejoined.clone(),
                first_boot: entry.first_boot,
            })
        };
        all.iter().filter_map(summary).collect()
    }

    /// Returns true if this node was never part of the run. It waited for a round and left before its first
    /// step in it, and no earlier round had it.
    fn passed_by(&self, entry: &Entry) -> bool {
        let is_lost = entry.again && matches!(entry.outcome, Some(NodeOutcome::Failed { .. }));
        let identity = entry.identity();
        let is_known = || {
            let mut earlier = self.nodes.values().filter(|other| other.round < entry.round);
            earlier.any(|other| other.identity().is(&identity))
        };
        entry.round > 1 && is_lost && !entry.has_begun && !is_known()
    }

    /// Returns true if this machine's disks were being written, in this round or an earlier one.
    fn has_erased(&self, entry: &Entry) -> bool {
        let identity = entry.identity();
        let mut same = self.nodes.values().filter(|other| other.round <= entry.round);
        same.any(|other| other.writes && other.identity().is(&identity))
    }

    /// Returns true if the same machine was in a later round.
    fn has_later(&self, entry: &Entry) -> bool {
        let identity = entry.identity();
        let mut later = self.nodes.values().filter(|other| other.round > entry.round);
        later.any(|other| other.identity().is(&identity))
    }
}

/// The evidence of a DHCP request from a node's card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asking {
    /// The clone has booted.
    Proof,
    /// The clone is on its way and will report by itself when it is up. Returned once.
    ComingUp(NodeRef),
    /// No evidence: firmware, a management board, or another system may have asked.
    Nothing,
}

/// Returns true if two host names are one machine's. Only the first labels count, without regard to case.
fn is_same_host(one: &str, other: &str) -> bool {
    let first = |name: &str| name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    !first(one).is_empty() && first(one) == first(other)
}

fn node_ref(info: &NodeInfo) -> NodeRef {
    NodeRef {
        id: info.id.0,
        name: info.name.to_string(),
        addr: info.addr.ip().to_string(),
        position: info.position.0,
    }
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
