//! The order of the chain in `--dry-run`, as far as it is known before nodes come.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use comfy_table::{Table, presets};
use ka_mac::MacAddr;
use ka_proto::order::{Candidate, Crossings, OrderRule};
use serde::Serialize;

use crate::settings::Settings;

/// A node of the order file or of the node list, in its place.
#[derive(Debug, Serialize)]
struct PlannedNode {
    /// Place in the chain, from 1.
    place: usize,
    /// Name of the node, or the address by which the list names it.
    node: String,
    /// Group of the node.
    group: Option<String>,
}

/// The order that follows from the order file and the node list.
#[derive(Debug, Serialize)]
pub(super) struct PlannedOrder {
    nodes: Vec<PlannedNode>,
    crossings: Crossings,
}

/// A node that is named before it comes.
struct Named {
    name: String,
    addr: Option<SocketAddr>,
    mac: Option<MacAddr>,
}

impl Named {
    /// Returns the node that a handle of the order file names.
    fn by(handle: String) -> Self {
        Self {
            addr: handle.parse::<IpAddr>().ok().map(|addr| (addr, 0).into()),
            mac: handle.parse().ok(),
            name: handle,
        }
    }

    fn candidate(&self) -> Candidate<'_> {
        Candidate {
            name: &self.name,
            addr: self.addr,
            mac: self.mac,
            wiring: None,
        }
    }

    /// True if the order file may mean this node by that handle.
    fn is_called(&self, other: &Self) -> bool {
        self.name.eq_ignore_ascii_case(&other.name)
            || (self.mac.is_some() && self.mac == other.mac)
            || (self.addr.is_some() && self.addr.map(|addr| addr.ip()) == other.addr.map(|addr| addr.ip()))
    }
}

impl PlannedOrder {
    /// Returns the order of all nodes that the settings name.
    pub(super) fn new(settings: &Settings) -> Self {
        let listed = settings.boot.pxe.iter().flat_map(|plan| &plan.nodes);
        let mut named: Vec<Named> = listed
            .map(|node| Named {
                name: node.name.clone(),
                addr: node.address.map(|addr| (addr, 0).into()),
                mac: Some(node.mac),
            })
            .collect();
        for handle in settings.order.handles() {
            let one = Named::by(handle);
            if !named.iter().any(|known| known.is_called(&one)) {
                named.push(one);
            }
        }
        let rule = OrderRule {
            list: &settings.order,
            golden: None,
        };
        let candidates: Vec<_> = named.iter().map(Named::candidate).collect();
        let order = rule.order(&candidates);
        let chain: Vec<_> = order.iter().map(|index| candidates[*index]).collect();
        let nodes = (1..).zip(&chain).map(|(place, node)| PlannedNode {
            place,
            node: node.name.to_owned(),
            group: settings.order.group(node).map(str::to_owned),
        });
        Self {
            nodes: nodes.collect(),
            crossings: rule.crossings(&chain),
        }
    }
}

impl fmt::Display for PlannedOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes.is_empty() {
            return writeln!(
                f,
                "\nOrder of the chain: by the switch ports that nodes hear of (LLDP), else by address"
            );
        }
        let mut table = Table::new();
        table
            .load_preset(presets::NOTHING)
            .set_header(["place", "node", "group"]);
        for node in &self.nodes {
            let group = node.group.clone().unwrap_or_default();
            table.add_row([node.place.to_string(), node.node.clone(), group]);
        }
        writeln!(f, "\nOrder of the chain:\n{table}")?;
        if self.crossings.is_known() {
            writeln!(f, "{}", self.crossings)?;
        }
        writeln!(
            f,
            "Nodes that are not in --order FILE or in a group come last. Within a group, and without one, nodes are \
             ordered by the switch ports that they hear of (LLDP), else by address."
        )
    }
}
