//! The clones that are done, and their way to their own disks: the boot server sends their machines there, and
//! their beacons tell when they have come up.

use std::net::{IpAddr, SocketAddr};

use ka_disk::spec::BeaconSpec;
use ka_proto::discovery::BeaconToken;
use ka_proto::identity::Identity;
use ka_proto::run::NodeInfo;
use ka_transport::LocalAddrs;

use crate::boot::Serving;
use crate::monitor::Monitor;

/// Most addresses of ours that clones call at their first boot. No server has more that clones could reach.
const MAX_BEACON_ADDRS: usize = 16;

/// The nodes whose clones are good, with the boot server of their machines.
pub(super) struct FinishedClones {
    nodes: Vec<NodeInfo>,
    /// Number of nodes, from the first one on, that the boot server knows.
    told: usize,
    serving: Option<Serving>,
    /// Token of the clones' beacons, if the run waits for them.
    beacon: Option<BeaconToken>,
}

impl FinishedClones {
    pub(super) const fn new(serving: Option<Serving>, beacon: Option<BeaconToken>) -> Self {
        Self {
            nodes: Vec::new(),
            told: 0,
            serving,
            beacon,
        }
    }

    /// Adds a node whose clone is good.
    pub(super) fn add(&mut self, node: NodeInfo) {
        self.nodes.push(node);
    }

    /// Removes nodes whose clones are not good after all, and returns their identities.
    pub(super) fn remove(&mut self, is_bad: impl Fn(&NodeInfo) -> bool) -> Vec<Identity> {
        let removed = self.nodes.iter().filter(|node| is_bad(node));
        let removed = removed.map(NodeInfo::identity).collect();
        // The boot server knows the first nodes of the list. Those that it does not know yet come behind
        // them.
        let known = self.nodes.iter().take(self.told);
        self.told = known.filter(|node| !is_bad(node)).count();
        self.nodes.retain(|node| !is_bad(node));
        removed
    }

    /// Returns the nodes, in the order in which they were done.
    pub(super) fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    /// Has the boot server send the machines of new clones to their own disks; the others stay armed. This
    /// comes before the release, because a machine that boots from the network at once must get the right
    /// menu.
    pub(super) fn tell_boot_server(&mut self, monitor: &Monitor) {
        let new = self
            .nodes
            .iter()
            .skip(std::mem::replace(&mut self.told, self.nodes.len()));
        let Some(serving) = &self.serving else { return };
        for node in new {
            if let Some(mac) = serving.finished(node) {
                monitor.learn_mac(node.id.0, mac);
            }
        }
    }

    /// Returns the data for the clones' beacons, if the run waits for first boots.
    pub(super) fn beacon_spec(&self, local: &LocalAddrs) -> Option<BeaconSpec> {
        // With more than one address, discovery listens on IPv4.
        let has_v4 = local.reachable.iter().any(IpAddr::is_ipv4);
        // A clone is another machine, so our loopback address means another host there.
        let is_ours = |addr: &&IpAddr| !addr.is_loopback() && (addr.is_ipv4() || !has_v4);
        let addrs = local.reachable.iter().filter(is_ours);
        let addrs = addrs.map(|addr| SocketAddr::new(*addr, local.control.port()));
        self.beacon.map(|token| BeaconSpec {
            addrs: addrs.take(MAX_BEACON_ADDRS).collect(),
            token,
        })
    }

    /// True if machines get their addresses from our boot server.
    pub(super) fn gives_addresses(&self) -> bool {
        self.serving.as_ref().is_some_and(Serving::gives_addresses)
    }

    /// Ends the boot server.
    pub(super) fn stop_serving(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use ka_proto::{ChainPosition, NodeId, NodeName};
    use ka_transport::Approvals;

    use super::*;

    fn node(id: u32) -> NodeInfo {
        NodeInfo {
            id: NodeId(id),
            name: NodeName::new(&format!("n{id}")).unwrap(),
            addr: ([10, 0, 0, 1], 30764).into(),
            mac: None,
            position: ChainPosition(id),
            holds_clone: false,
            wiring: None,
        }
    }

    #[test]
    fn the_boot_server_is_told_of_each_clone_once_also_after_one_was_taken_out() {
        let monitor =
            Monitor::new(Vec::new(), None, crossbeam_channel::never(), Approvals::default()).unwrap();
        let mut clones = FinishedClones::new(None, None);
        clones.add(node(1));
        clones.add(node(2));
        clones.tell_boot_server(&monitor);
        clones.add(node(3));
        let removed = clones.remove(|node| node.id == NodeId(1));
        assert_eq!(removed, [node(1).identity()]);
        assert_eq!((clones.nodes().len(), clones.told), (2, 1));
        clones.tell_boot_server(&monitor);
        assert_eq!(clones.told, 2);
    }
}
