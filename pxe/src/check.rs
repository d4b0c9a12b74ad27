//! Checks that run before any boot image is made: interface, addresses, ports, boot programs.
//!
//! Making boot images takes minutes on a slow machine. These checks report a fault at once, also under
//! `--dry-run`.

use std::net::Ipv4Addr;
use std::path::Path;

use crate::config::{HTTP_PORT, TFTP_PORT};
use crate::dhcp::{DhcpConfig, DhcpError, DhcpMode, Interface, KnownMachine, Subnet, try_ports};
use crate::error::PxeError;
use crate::faults::Faults;
use crate::nodes::NodeEntry;
use crate::programs::Programs;
use crate::{http, iface, tftp};

/// The task of a boot server, as far as it can be checked without kernel and image.
#[derive(Debug, Clone, Copy)]
pub struct Needs<'a> {
    /// The interface that the server will use.
    pub iface: &'a str,
    /// DHCP mode: it says which server gives addresses.
    pub dhcp: &'a DhcpMode,
    /// The node list.
    pub nodes: &'a [NodeEntry],
    /// The boot programs.
    pub programs: &'a Programs,
    /// The directory for the lease file.
    pub state_dir: &'a Path,
}

impl Needs<'_> {
    /// Checks everything except the ports. Returns warnings: machines that cannot boot, addresses that no
    /// server gives.
    ///
    /// # Errors
    /// Fails with all faults of the interface, the addresses and the boot programs, as
    /// [`crate::BootServer::start`] would.
    pub fn check(&self) -> Result<Vec<String>, Faults> {
        let addresses = iface::addresses(self.iface)?;
        let programs = self.programs.clone().under(self.dhcp);
        let mut warnings: Vec<String> = programs
            .missing_line()
            .into_iter()
            .chain(programs.advice())
            .collect();
        if matches!(self.dhcp, DhcpMode::Off) {
            return Ok(warnings);
        }
        let interface = self.interface().map_err(PxeError::from)?;
        let faults = self.config().faults(&interface);
        let other = addresses
            .iter()
            .filter(|address| **address != interface.address());
        let faults = faults
            .into_iter()
            .chain(other.filter_map(|address| self.own_in_pool(*address)));
        let faults = faults.map(PxeError::from).collect();
        if matches!(self.dhcp, DhcpMode::Proxy) {
            warnings.extend(elsewhere(self.nodes, &interface.subnet, self.iface));
        }
        Faults::unless(faults, warnings)
    }

    /// Opens every port for a moment. Returns an error for each port that is in use or not permitted.
    #[must_use]
    pub fn check_ports(&self) -> Vec<PxeError> {
        let addresses = match iface::addresses(self.iface) {
            Ok(addresses) => addresses,
            Err(error) => return vec![error],
        };
        let mut busy = Vec::new();
        for addr in addresses {
            busy.extend(tftp::bind(addr, TFTP_PORT).err());
            busy.extend(http::bind(addr, HTTP_PORT).err());
        }
        if !matches!(self.dhcp, DhcpMode::Off) {
            busy.extend(try_ports(self.iface).err().map(PxeError::from));
        }
        busy
    }

    /// The fault if the pool contains this further address of the interface.
    fn own_in_pool(&self, address: Ipv4Addr) -> Option<DhcpError> {
        let DhcpMode::Full(full) = self.dhcp else {
            return None;
        };
        let pool = full.pool;
        pool.contains(address).then(|| {
            DhcpError::Config(format!(
                "pool {pool} contains our own address {address}: choose FIRST and LAST beside it"
            ))
        })
    }

    fn interface(&self) -> Result<Interface, DhcpError> {
        let near: Option<Ipv4Addr> = match self.dhcp {
            DhcpMode::Full(full) => Some(full.pool.first),
            DhcpMode::Proxy | DhcpMode::Off => None,
        };
        Interface::find(self.iface, near)
    }

    fn config(&self) -> DhcpConfig {
        let known = self.nodes.iter().map(|node| KnownMachine {
            mac: node.mac,
            name: Some(node.name.clone()),
            address: node.address,
        });
        DhcpConfig {
            iface: self.iface.to_owned(),
            mode: self.dhcp.clone(),
            known: known.collect(),
            state_dir: self.state_dir.to_owned(),
        }
    }
}

/// One warning for each address of the node list that is outside the subnet, so that no server on this wire
/// can give it.
fn elsewhere(nodes: &[NodeEntry], subnet: &Subnet, iface: &str) -> Vec<String> {
    let outside = nodes.iter().filter_map(|node| {
        let address = node.address.filter(|address| !subnet.has_host(*address))?;
        Some(format!(
            "{} has the address {address} in --nodes, which is not in {subnet} of {iface}",
            node.name
        ))
    });
    outside.collect()
}

#[cfg(test)]
mod tests {
    use ka_mac::MacAddr;

    use super::*;

    #[test]
    fn an_address_of_another_network_is_named_with_its_node() {
        let node = |last: u8, name: &str, address: Option<Ipv4Addr>| NodeEntry {
            mac: MacAddr([2, 0, 0, 0, 0, last]),
            name: name.to_owned(),
            address,
            group: None,
            disks: vec![],
        };
        let subnet = Subnet {
            address: [10, 78, 0, 1].into(),
            prefix: 24,
        };
        let nodes = [
            node(1, "n1", Some([10, 99, 0, 3].into())),
            node(2, "n2", Some([10, 78, 0, 3].into())),
            node(3, "n3", None),
            node(4, "n4", Some([10, 78, 0, 255].into())),
        ];
        let said = elsewhere(&nodes, &subnet, "e0");
        assert_eq!(
            said,
            [
                "n1 has the address 10.99.0.3 in --nodes, which is not in 10.78.0.0/24 of e0",
                "n4 has the address 10.78.0.255 in --nodes, which is not in 10.78.0.0/24 of e0",
            ]
        );
    }
}
