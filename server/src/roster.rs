//! The nodes of a run and what became of each. Pure: no clock, no socket.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ka_proto::MacAddr;
use ka_proto::identity::Identity;
use ka_status::boot::{FirstBoot, SeenBy};
use ka_status::event::Step;
use ka_status::run::NodeRef;
use ka_status::spool::Rejoined;
use ka_status::summary::{NodeOutcome, NodeSummary};
use ka_transport::NodeInfo;

use crate::unfinished::Done;

/// Places kept of each node at which it went on: a line that breaks more often is known to be bad.
const MAX_REJOINED: usize = 20;

/// Every node that was ever accepted.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    nodes: BTreeMap<u32, Entry>,
    /// Those that wait for the next round.
    queued: BTreeMap<u32, NodeRef>,
    /// How many rounds are over.
    rounds_over: u32,
}

#[derive(Debug)]
struct Entry {
    node: NodeRef,
    addr: IpAddr,
    mac: Option<MacAddr>,
    /// In which round it takes part, or did.
    round: u32,
    /// It was lost, and may come back.
    again: bool,
    /// It has said something about its work in this round.
    has_begun: bool,
    /// It has begun to write its disks.
    writes: bool,
    outcome: Option<NodeOutcome>,
    /// Where it went on from what was kept of a stream.
    rejoined: Vec<Rejoined>,
    first_boot: Option<FirstBoot>,
    /// It was released, and its connection is closed.
    is_gone: bool,
    /// That its system asks for an address was told.
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
            addr: info.addr,
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
    /// Takes in a node as it joins. Its place is the one it has among those present, until the order is final.
    pub(crate) fn join(&mut self, info: &NodeInfo) -> NodeRef {
        self.queued.remove(&info.id.0);
        let round = self.rounds_over + 1;
        self.nodes.insert(info.id.0, Entry::new(info, round));
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

    /// The chain is ordered: `infos` have their final places.
    pub(crate) fn order(&mut self, infos: &[NodeInfo]) -> Vec<NodeRef> {
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

    /// Takes in a node that was done before the server was started again. It counts as of round 0.
    pub(crate) fn know_done(&mut self, id: u32, done: &Done) -> NodeRef {
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

    /// Takes in a node that waits for the next round.
    pub(crate) fn queue(&mut self, info: &NodeInfo) -> NodeRef {
        let node = node_ref(info);
        self.queued.insert(info.id.0, node.clone());
        node
    }

    /// A node says what it is doing. Its disks are written from the first partition table on.
    pub(crate) fn works(&mut self, id: u32, step: Step) {
        if let Some(entry) = self.nodes.get_mut(&id) {
            entry.has_begun = true;
            entry.writes |= step == Step::Partition;
        }
    }

    /// A node of this name that is done, and was at another address than the one that comes now.
    pub(crate) fn done_elsewhere(&self, name: &str, addr: IpAddr) -> Option<NodeRef> {
        let is_it = |entry: &&Entry| {
            entry.node.name == name
                && entry.addr != addr
                && matches!(entry.outcome, Some(NodeOutcome::Done { .. }))
        };
        self.nodes.values().find(is_it).map(|entry| entry.node.clone())
    }

    /// A node was lost, and may come back.
    pub(crate) fn may_return(&mut self, id: u32) {
        if let Some(entry) = self.nodes.get_mut(&id) {
            entry.again = true;
        }
    }

    /// The round is over. Gives how many wait for the next one, and how many were lost and are not among them.
    pub(crate) fn end_round(&mut self) -> (usize, usize) {
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

    /// Takes back that a node is done: something turned up that nobody could know then. Other outcomes stay.
    pub(crate) fn revoke(&mut self, id: u32) {
        if let Some(entry) = self.nodes.get_mut(&id)
            && matches!(entry.outcome, Some(NodeOutcome::Done { .. }))
        {
            entry.outcome = None;
            entry.first_boot = None;
        }
    }

    /// Nodes that are still in.
    pub(crate) fn unsettled(&self) -> Vec<NodeRef> {
        self.nodes
            .values()
            .filter(|entry| entry.outcome.is_none())
            .map(|entry| entry.node.clone())
            .collect()
    }

    /// A node went on from what was kept of a stream. The last ones count, should a line break all the time.
    pub(crate) fn rejoined(&mut self, id: u32, rejoined: Rejoined) -> Option<NodeRef> {
        let entry = self.nodes.get_mut(&id)?;
        if entry.rejoined.len() >= MAX_REJOINED {
            entry.rejoined.remove(0);
        }
        entry.rejoined.push(rejoined);
        Some(entry.node.clone())
    }

    /// A node's hardware address, which it did not give itself.
    pub(crate) fn learn_mac(&mut self, id: u32, mac: MacAddr) {
        if let Some(entry) = self.nodes.get_mut(&id) {
            entry.mac = Some(mac);
        }
    }

    /// The nodes are released: from now on the clones among them are missing until they are seen. Gives how many.
    pub(crate) fn expect_boots(&mut self) -> usize {
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

    /// Clones that have not been seen yet.
    pub(crate) fn missing_boots(&self) -> usize {
        let is_missing = |entry: &&Entry| entry.first_boot == Some(FirstBoot::NeverCameBack);
        self.nodes.values().filter(is_missing).count()
    }

    /// A released node has closed its connection.
    pub(crate) fn gone(&mut self, id: u32) {
        if let Some(entry) = self.nodes.get_mut(&id) {
            entry.is_gone = true;
        }
    }

    /// How many wait for the next round.
    pub(crate) fn waiting(&self) -> usize {
        self.queued.len()
    }

    /// The number under which the clone is waited for that had number `id` when its beacon was left: its node may have lost
    /// its server and come back with it under another one.
    pub(crate) fn cloned_as(&self, id: u32, name: &str, mac: Option<MacAddr>) -> u32 {
        let is_it = |entry: &Entry| {
            entry.first_boot.is_some() && entry.node.name == name && (mac.is_none() || entry.mac == mac)
        };
        if self.nodes.get(&id).is_some_and(is_it) {
            return id;
        }
        let mut others = self.nodes.iter().filter(|(_, entry)| is_it(entry));
        others.next().map_or(id, |(other, _)| *other)
    }

    /// What it proves that a system on this node's card asks for an address, under this name.
    pub(crate) fn asks_for_address(&mut self, id: u32, host_name: Option<&str>) -> Asking {
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

    /// A clone was seen. `None` when nobody waits for it, or it was seen before.
    pub(crate) fn came_back(&mut self, id: u32, seen_by: SeenBy, after_ms: u64) -> Option<NodeRef> {
        let entry = self.nodes.get_mut(&id)?;
        if entry.first_boot != Some(FirstBoot::NeverCameBack) {
            return None;
        }
        entry.first_boot = Some(FirstBoot::Booted { seen_by, after_ms });
        Some(entry.node.clone())
    }

    /// The number of the node with this hardware address.
    pub(crate) fn id_of(&self, mac: MacAddr) -> Option<u32> {
        let mut nodes = self.nodes.iter();
        nodes.find(|(_, entry)| entry.mac == Some(mac)).map(|(id, _)| *id)
    }

    /// All nodes with their outcomes, by round and in chain order; those without a place come first. A node that was in
    /// several rounds is there once, as the last one left it: lost in the first and done in the second is done.
    pub(crate) fn summaries(&self) -> Vec<NodeSummary> {
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

    /// Returns true if this node waited for a round and was gone before it had done anything in it, and nobody has seen it before: it
    /// was never part of the run.
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

    /// Whether the same machine was in a later round.
    fn has_later(&self, entry: &Entry) -> bool {
        let identity = entry.identity();
        let mut later = self.nodes.values().filter(|other| other.round > entry.round);
        later.any(|other| other.identity().is(&identity))
    }
}

/// What a DHCP request of a node's card proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asking {
    /// It is the clone.
    Proof,
    /// It is the clone, which will say by itself when it is up. Told once.
    ComingUp(NodeRef),
    /// Nothing: it may be firmware, a management board, or another system.
    Nothing,
}

/// Whether two host names are one machine's: the first labels count, without regard to case.
fn is_same_host(one: &str, other: &str) -> bool {
    let first = |name: &str| name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    !first(one).is_empty() && first(one) == first(other)
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
#[path = "roster_tests.rs"]
mod tests;
