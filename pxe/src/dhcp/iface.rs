//! The interface that is served: its Ethernet address, IPv4 address and prefix, as the kernel has them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;

use ka_mac::MacAddr;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::sys::socket::LinkAddr;

use crate::dhcp::DhcpError;

/// `ARPHRD_ETHER`: hardware type of an interface with Ethernet frames.
const ETHERNET: u16 = 1;

/// An IPv4 subnet: all addresses that share a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// Any address of the subnet.
    pub address: Ipv4Addr,
    /// Prefix length, in bits, 0 to 32.
    pub prefix: u8,
}

impl Subnet {
    /// The netmask.
    #[must_use]
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0))
    }

    /// The broadcast address.
    #[must_use]
    pub fn broadcast(&self) -> Ipv4Addr {
        self.address | !self.mask()
    }

    /// The network address: all host bits are zero.
    #[must_use]
    pub fn network(&self) -> Ipv4Addr {
        self.address & self.mask()
    }

    /// True if the subnet contains the address.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        address & self.mask() == self.network()
    }

    /// True if a machine can have the address: it is neither the network's nor the broadcast address.
    #[must_use]
    pub fn has_host(&self, address: Ipv4Addr) -> bool {
        let special = self.prefix < 31 && (address == self.network() || address == self.broadcast());
        self.contains(address) && !special
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.prefix)
    }
}

/// An Ethernet interface with an IPv4 address.
#[derive(Debug, Clone, Copy)]
pub struct Interface {
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Its IPv4 address and prefix.
    pub subnet: Subnet,
    link: LinkAddr,
}

impl Interface {
    /// Looks up an interface. If it has several IPv4 addresses, the one whose subnet contains `near` (the
    /// pool's first address) is taken, else the first.
    ///
    /// # Errors
    /// Fails if the interface does not exist, is down, is not Ethernet, or has no IPv4 address.
    pub fn find(name: &str, near: Option<Ipv4Addr>) -> Result<Self, DhcpError> {
        let all: Vec<InterfaceAddress> = getifaddrs()
            .map_err(|err| DhcpError::interface(name, format!("cannot be looked up: {err}")))?
            .collect();
        let ours: Vec<&InterfaceAddress> = all.iter().filter(|one| one.interface_name == name).collect();
        let Some(first) = ours.first() else {
            let names: BTreeSet<&str> = all.iter().map(|one| one.interface_name.as_str()).collect();
            let names: Vec<&str> = names.into_iter().collect();
            return Err(DhcpError::interface(
                name,
                format!("does not exist; there are {}", names.join(", ")),
            ));
        };
        if !first.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP) {
            return Err(DhcpError::interface(
                name,
                format!("is down: ip link set {name} up"),
            ));
        }
        let (link, mac) = ours
            .iter()
            .find_map(|one| ethernet(one))
            .ok_or_else(|| DhcpError::interface(name, "is no Ethernet interface".to_owned()))?;
        let subnets: Vec<Subnet> = ours.iter().filter_map(|one| subnet(one)).collect();
        let nearest = subnets
            .iter()
            .find(|subnet| near.is_some_and(|address| subnet.contains(address)))
            .or(subnets.first());
        let subnet = *nearest.ok_or_else(|| {
            let repair = format!("has no IPv4 address: ip address add ADDRESS/PREFIX dev {name}");
            DhcpError::interface(name, repair)
        })?;
        Ok(Self { mac, subnet, link })
    }

    /// IPv4 address of this server on the interface.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.subnet.address
    }

    pub(crate) fn link(&self) -> &LinkAddr {
        &self.link
    }
}

fn ethernet(one: &InterfaceAddress) -> Option<(LinkAddr, MacAddr)> {
    let link = *one.address.as_ref()?.as_link_addr()?;
    let mac = MacAddr(link.addr()?);
    (link.hatype() == ETHERNET && mac != MacAddr::ZERO).then_some((link, mac))
}

fn subnet(one: &InterfaceAddress) -> Option<Subnet> {
    let address = one.address.as_ref()?.as_sockaddr_in()?.ip();
    let mask = one.netmask.as_ref()?.as_sockaddr_in()?.ip();
    let prefix = u8::try_from(u32::from(mask).count_ones()).ok()?;
    Some(Subnet { address, prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_knows_its_ends_at_every_prefix() {
        for (prefix, mask, network, broadcast) in [
            (0, [0, 0, 0, 0], [0, 0, 0, 0], [255, 255, 255, 255]),
            (20, [255, 255, 240, 0], [10, 1, 16, 0], [10, 1, 31, 255]),
            (24, [255, 255, 255, 0], [10, 1, 18, 0], [10, 1, 18, 255]),
            (32, [255; 4], [10, 1, 18, 3], [10, 1, 18, 3]),
        ] {
            let subnet = Subnet {
                address: [10, 1, 18, 3].into(),
                prefix,
            };
            assert_eq!(subnet.mask().octets(), mask, "/{prefix}");
            assert_eq!(subnet.network().octets(), network, "/{prefix}");
            assert_eq!(subnet.broadcast().octets(), broadcast, "/{prefix}");
            assert!(subnet.contains(subnet.address));
        }
    }

    #[test]
    fn an_interface_that_is_not_there_is_named_with_those_that_are() {
        let said = Interface::find("nosuch0", None).unwrap_err().to_string();
        assert!(
            said.starts_with("interface nosuch0 does not exist; there are "),
            "{said}"
        );
        assert!(said.contains("lo"), "{said}");
    }

    #[test]
    fn loopback_is_no_ethernet() {
        let said = Interface::find("lo", None).unwrap_err().to_string();
        assert_eq!(said, "interface lo is no Ethernet interface");
    }
}
