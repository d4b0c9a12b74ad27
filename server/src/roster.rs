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

    /// Whether this node waited for a round and was gone before it had done anything in it, and nobody has seen it before: it
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

    /// Whether this machine's disks were being written, in this round or an earlier one.
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
mod tests {
    use ka_proto::{ChainPosition, MacAddr, NodeId};
    use ka_status::boot::{FirstBoot, SeenBy};
    use ka_status::report::NodeReport;
    use ka_status::summary::NodeOutcome;
    use ka_transport::NodeInfo;

    use super::{Asking, Roster};

    fn info(id: u32, last: u8, position: u32) -> NodeInfo {
        NodeInfo {
            id: NodeId(id),
            name: format!("n{id}"),
            addr: [10, 0, 1, last].into(),
            mac: None,
            position: ChainPosition(position),
            wants_release: false,
            holds_clone: false,
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
    fn a_clone_can_be_called_back_but_a_failure_stays_what_it_is() {
        let mut roster = Roster::default();
        roster.join(&info(1, 1, 1));
        roster.join(&info(2, 2, 2));
        let report = NodeReport::default();
        roster.settle(1, NodeOutcome::Done { report });
        roster.settle(2, failed("no disk"));
        for id in [1, 2] {
            roster.revoke(id);
            roster.settle(id, failed("the same machine-id"));
        }
        let outcomes: Vec<_> = roster.summaries().into_iter().map(|node| node.outcome).collect();
        assert_eq!(outcomes, [failed("the same machine-id"), failed("no disk")]);
    }

    #[test]
    fn only_clones_are_waited_for_and_each_comes_back_once() {
        let mut roster = Roster::default();
        for id in 1..=3 {
            roster.join(&info(id, u8::try_from(id).unwrap(), id));
        }
        let mac = MacAddr([2, 0, 0, 0, 0, 2]);
        roster.learn_mac(2, mac);
        for id in [1, 2] {
            let report = NodeReport::default();
            roster.settle(id, NodeOutcome::Done { report });
        }
        roster.settle(3, failed("no disk"));
        assert_eq!(
            roster.came_back(1, SeenBy::Beacon, 5),
            None,
            "it is not released yet"
        );
        assert_eq!(roster.expect_boots(), 2);
        assert_eq!(roster.id_of(mac), Some(2));
        assert!(roster.came_back(2, SeenBy::Dhcp, 5).is_some());
        assert_eq!(roster.came_back(2, SeenBy::Beacon, 9), None);
        assert_eq!(roster.came_back(3, SeenBy::Beacon, 9), None, "it failed");
        assert_eq!(roster.missing_boots(), 1);
        let boots: Vec<_> = roster.summaries().iter().map(|node| node.first_boot).collect();
        let seen = FirstBoot::Booted {
            seen_by: SeenBy::Dhcp,
            after_ms: 5,
        };
        assert_eq!(boots, [Some(FirstBoot::NeverCameBack), Some(seen), None]);
    }

    #[test]
    fn an_address_that_is_asked_for_proves_a_boot_only_by_name_after_the_node_has_gone_and_without_a_beacon()
    {
        let mut roster = Roster::default();
        for id in 1..=2 {
            roster.join(&info(id, u8::try_from(id).unwrap(), id));
            let report = NodeReport {
                beacon: id == 2,
                ..NodeReport::default()
            };
            roster.settle(id, NodeOutcome::Done { report });
        }
        roster.expect_boots();
        assert_eq!(
            roster.asks_for_address(1, Some("n1")),
            Asking::Nothing,
            "it is still connected"
        );
        roster.gone(1);
        roster.gone(2);
        for other in [None, Some(""), Some("host1"), Some("n11"), Some(".")] {
            assert_eq!(roster.asks_for_address(1, other), Asking::Nothing, "{other:?}");
        }
        assert_eq!(roster.asks_for_address(1, Some("N1.lab.example")), Asking::Proof);
        assert!(matches!(
            roster.asks_for_address(2, Some("n2")),
            Asking::ComingUp(_)
        ));
        assert_eq!(
            roster.asks_for_address(2, Some("n2")),
            Asking::Nothing,
            "it was told"
        );
        assert_eq!(roster.missing_boots(), 2);
    }

    #[test]
    fn a_beacon_of_a_node_that_came_back_under_another_number_is_its_own() {
        let mut roster = Roster::default();
        for (id, name) in [(1, "other"), (7, "n1")] {
            let info = NodeInfo {
                name: name.into(),
                ..info(id, u8::try_from(id).unwrap(), id)
            };
            roster.join(&info);
            let report = NodeReport::default();
            roster.settle(id, NodeOutcome::Done { report });
        }
        roster.expect_boots();
        assert_eq!(roster.cloned_as(1, "n1", None), 7);
        assert_eq!(roster.cloned_as(1, "other", None), 1);
    }

    #[test]
    fn a_node_that_was_lost_and_came_back_counts_once_and_as_the_last_round_left_it() {
        let mut roster = Roster::default();
        for id in 1..=2 {
            roster.join(&info(id, u8::try_from(id).unwrap(), id));
        }
        let done = NodeOutcome::Done {
            report: NodeReport::default(),
        };
        roster.settle(1, done.clone());
        roster.settle(2, failed("its connection broke"));
        roster.may_return(2);
        // As it comes back: a new number, the same name and address; and another one that was late.
        let back = NodeInfo {
            name: "n2".into(),
            ..info(3, 2, 0)
        };
        roster.queue(&info(4, 4, 0));
        assert_eq!(roster.end_round(), (1, 1));
        roster.join(&back);
        roster.join(&info(4, 4, 0));
        roster.settle(3, done.clone());
        roster.settle(4, failed("no disk"));
        let all = roster.summaries();
        let short: Vec<_> = all.iter().map(|node| (node.node.id, node.round)).collect();
        assert_eq!(short, [(1, 1), (3, 2), (4, 2)]);
        assert_eq!(all[1].outcome, done);
        assert_eq!(
            roster.end_round(),
            (0, 0),
            "one that failed by itself does not come back"
        );
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

    #[test]
    fn disks_that_were_written_in_any_round_are_erased_until_the_node_is_done() {
        let mut roster = Roster::default();
        roster.join(&info(1, 9, 1));
        roster.works(1, ka_status::event::Step::Check);
        assert!(roster.settle(1, failed("lost")).is_some());
        assert!(!roster.summaries()[0].erased);
        roster.works(1, ka_status::event::Step::Partition);
        assert!(roster.summaries()[0].erased);
        roster.end_round();
        // It comes back as another node, and fails before it writes again.
        let again = NodeInfo {
            name: "n1".to_owned(),
            ..info(2, 9, 1)
        };
        roster.join(&again);
        roster.settle(2, failed("checking"));
        let summaries = roster.summaries();
        assert!(summaries.len() == 1 && summaries[0].erased, "{summaries:?}");
    }

    #[test]
    fn who_waited_for_a_round_and_was_gone_before_it_did_anything_was_never_there() {
        let mut roster = Roster::default();
        roster.join(&info(1, 9, 1));
        roster.settle(
            1,
            NodeOutcome::Done {
                report: NodeReport::default(),
            },
        );
        roster.end_round();
        for id in [2, 3] {
            roster.join(&info(id, 10, 1));
            roster.may_return(id);
        }
        roster.works(3, ka_status::event::Step::ChooseDisks);
        roster.settle(2, failed("its connection broke"));
        roster.settle(3, failed("its connection broke"));
        let left: Vec<u32> = roster.summaries().iter().map(|summary| summary.node.id).collect();
        assert_eq!(left, [1, 3]);
    }

    #[test]
    fn a_twin_is_told_by_its_address() {
        let mut roster = Roster::default();
        roster.join(&info(1, 9, 1));
        assert_eq!(roster.done_elsewhere("n1", [10, 0, 1, 77].into()), None);
        roster.settle(
            1,
            NodeOutcome::Done {
                report: NodeReport::default(),
            },
        );
        assert_eq!(roster.done_elsewhere("n1", [10, 0, 1, 9].into()), None);
        let twin = roster.done_elsewhere("n1", [10, 0, 1, 77].into());
        assert_eq!(twin.map(|node| node.id), Some(1));
    }
}
