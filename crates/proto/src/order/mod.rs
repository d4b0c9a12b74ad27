//! The order of a chain: by the operator's list, by the switches that nodes heard of, by address.
//!
//! The data of a chain crosses the uplink of a switch once in each direction if the nodes of that switch stand
//! together. In the worst order it crosses the uplink once for each node.
//!
//! Not here: sources of wiring ([`crate::wiring`]), the places of a running stream ([`crate::run`]).
//! Specification: `docs/protocol.md`, "Order of the chain".

mod crossings;
mod list;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use ka_mac::MacAddr;

use crate::text::PlaceName;
use crate::wiring::{Wiring, natural_order};

pub use crossings::{Crossings, PlaceCrossings, PlaceKind};
pub use list::{ListFault, OrderList, group_line};

/// A node that is to have a place in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Host name.
    pub name: &'a str,
    /// Address at which its successor reaches it, if it is known yet.
    pub addr: Option<SocketAddr>,
    /// MAC address, if it is known.
    pub mac: Option<MacAddr>,
    /// The switch port at the other end of its line, if it has heard of it.
    pub wiring: Option<&'a Wiring>,
}

/// The facts by which a chain is ordered.
#[derive(Debug, Clone, Copy)]
pub struct OrderRule<'a> {
    /// The operator's list.
    pub list: &'a OrderList,
    /// The golden node's own switch port, if it has heard of it.
    pub golden: Option<&'a Wiring>,
}

impl OrderRule<'_> {
    /// Returns the order of the chain as indices of `nodes`. The operator's list comes first, in its order. Then
    /// come the nodes of the golden node's switch, then those of each other switch by its name, and last the
    /// nodes that heard nothing. On one switch, nodes are ordered by VLAN, the golden node's first, and by port.
    /// Otherwise they are ordered by address, then as they are given.
    #[must_use]
    pub fn order(&self, nodes: &[Candidate<'_>]) -> Vec<usize> {
        let ranks: Vec<_> = nodes.iter().map(|node| self.list.rank(node)).collect();
        let names = switch_names(nodes);
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        order.sort_by(|&one, &other| {
            let by_rank = ranks[one].cmp(&ranks[other]);
            by_rank
                .then_with(|| self.by_wiring(&names, nodes[one].wiring, nodes[other].wiring))
                .then_with(|| by_address(nodes[one].addr, nodes[other].addr))
        });
        order
    }

    /// Returns the crossings between switches of a chain that has this order.
    #[must_use]
    pub fn crossings(&self, chain: &[Candidate<'_>]) -> Crossings {
        crossings::count(self, chain)
    }

    fn by_wiring(
        &self,
        names: &BTreeMap<&PlaceName, &str>,
        one: Option<&Wiring>,
        other: Option<&Wiring>,
    ) -> Ordering {
        let (Some(one), Some(other)) = (one, other) else {
            return one.is_none().cmp(&other.is_none());
        };
        let name = |wiring: &Wiring| names.get(&wiring.chassis).copied().unwrap_or_default();
        let is_away = |wiring: &Wiring| !self.golden.is_some_and(|golden| golden.is_same_switch(wiring));
        let is_other_vlan = |wiring: &Wiring| self.golden.is_some_and(|golden| golden.vlan != wiring.vlan);
        (is_away(one).cmp(&is_away(other)))
            .then_with(|| natural_order(name(one), name(other)))
            .then_with(|| one.chassis.cmp(&other.chassis))
            .then_with(|| is_other_vlan(one).cmp(&is_other_vlan(other)))
            .then_with(|| one.vlan.cmp(&other.vlan))
            .then_with(|| natural_order(one.port.as_str(), other.port.as_str()))
    }
}

/// Returns one name for each switch. Nodes may have heard different names of one switch, or none.
fn switch_names<'a>(nodes: &[Candidate<'a>]) -> BTreeMap<&'a PlaceName, &'a str> {
    let mut names: BTreeMap<&PlaceName, &str> = BTreeMap::new();
    for wiring in nodes.iter().filter_map(|node| node.wiring) {
        let known = names
            .entry(&wiring.chassis)
            .or_insert_with(|| wiring.chassis.as_str());
        let is_name = wiring.system_name.is_some();
        if is_name && (*known == wiring.chassis.as_str() || wiring.switch() < *known) {
            *known = wiring.switch();
        }
    }
    names
}

/// Compares addresses as numbers. Nodes without one come last.
fn by_address(one: Option<SocketAddr>, other: Option<SocketAddr>) -> Ordering {
    (one.is_none(), one).cmp(&(other.is_none(), other))
}
