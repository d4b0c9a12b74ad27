//! Network interfaces: IP addresses, broadcast addresses and MAC addresses (getifaddrs(3)).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ka_mac::MacAddr;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use crate::HostError;

/// `ARPHRD_ETHER` of `linux/if_arp.h`.
const ETHERNET: u16 = 1;
/// Most interfaces that are looked at below one.
const MAX_LINES: usize = 64;

/// One address of one interface that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceAddr {
    /// Name of the interface: `eth0`.
    pub name: String,
    /// IP address.
    pub addr: IpAddr,
    /// Broadcast address of that wire; only IPv4 interfaces that can broadcast have one.
    pub broadcast: Option<Ipv4Addr>,
    /// MAC address of the interface; loopback and tunnels have none.
    pub mac: Option<MacAddr>,
    /// True if the interface is loopback.
    pub loopback: bool,
}

/// Lists every address of every interface that is up.
///
/// # Errors
/// When the kernel does not answer.
pub fn addresses() -> Result<Vec<InterfaceAddr>, HostError> {
    let all: Vec<_> = getifaddrs()
        .map_err(|errno| HostError::new("listing interfaces", errno))?
        .collect();
    let macs: HashMap<&str, MacAddr> = all
        .iter()
        .filter_map(|entry| {
            let mac = entry.address?.as_link_addr()?.addr()?;
            (mac != [0; 6]).then_some((entry.interface_name.as_str(), MacAddr(mac)))
        })
        .collect();
    let up = all
        .iter()
        .filter(|entry| entry.flags.contains(InterfaceFlags::IFF_UP));
    let found = up.filter_map(|entry| {
        let storage = entry.address?;
        let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        let addr = v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))?;
        let broadcast = entry
            .broadcast
            .and_then(|address| address.as_sockaddr_in().map(|found| found.ip()));
        Some(InterfaceAddr {
            name: entry.interface_name.clone(),
            addr,
            broadcast: broadcast.filter(|_| entry.flags.contains(InterfaceFlags::IFF_BROADCAST)),
            mac: macs.get(entry.interface_name.as_str()).copied(),
            loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
        })
    });
    Ok(found.collect())
}

/// An Ethernet interface: a card, or a bridge, bond, VLAN or tunnel that looks like one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Name of the interface: `eth0`.
    pub name: String,
    /// Number that the kernel gives the interface.
    pub index: u32,
}

/// Lists the Ethernet interfaces of this network namespace, up or down.
///
/// # Errors
/// When the kernel does not answer.
pub fn ethernet() -> Result<Vec<Interface>, HostError> {
    let all = getifaddrs().map_err(|errno| HostError::new("listing interfaces", errno))?;
    let found = all.filter_map(|entry| {
        let link = entry.address?;
        let link = link.as_link_addr()?;
        (link.hatype() == ETHERNET).then(|| Interface {
            name: entry.interface_name.clone(),
            index: u32::try_from(link.ifindex()).unwrap_or_default(),
        })
    });
    Ok(found.collect())
}

/// Returns the name of the interface that has `addr`, and the names of those below it: the ports of a bridge,
/// the lines of a bond, the interface of a VLAN (Linux, `Documentation/ABI/testing/sysfs-class-net`).
///
/// # Errors
/// As [`addresses`].
pub fn lines_of(addr: IpAddr) -> Result<Vec<String>, HostError> {
    let addr = addr.to_canonical();
    let found = addresses()?.into_iter().find(|entry| entry.addr == addr);
    Ok(found.map_or_else(Vec::new, |entry| {
        with_lower(Path::new("/sys/class/net"), entry.name)
    }))
}

fn with_lower(class: &Path, name: String) -> Vec<String> {
    let mut names = vec![name];
    let mut next = 0;
    while next < names.len() && names.len() < MAX_LINES {
        let entries = std::fs::read_dir(class.join(&names[next]));
        let mut lower: Vec<String> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix("lower_")?.to_owned()))
            .filter(|lower| !names.contains(lower))
            .collect();
        lower.sort();
        names.extend(lower);
        next += 1;
    }
    names
}

/// Returns the speed of an interface in Mbit/s. `None` when it is not known: it has no line, or none of its own.
#[must_use]
pub fn speed_mbit(name: &str) -> Option<u32> {
    let text = std::fs::read_to_string(Path::new("/sys/class/net").join(name).join("speed")).ok()?;
    text.trim().parse().ok().filter(|speed| *speed > 0)
}

/// Returns the MAC address of the interface that has `addr`; `None` when no interface has it, or it has no
/// MAC.
///
/// # Errors
/// As [`addresses`].
pub fn mac_of(addr: IpAddr) -> Result<Option<MacAddr>, HostError> {
    let unscoped = |addr: IpAddr| match addr {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4),
        IpAddr::V4(_) => addr,
    };
    Ok(addresses()?
        .into_iter()
        .find(|entry| entry.addr == unscoped(addr))
        .and_then(|entry| entry.mac))
}

/// Lists the MAC addresses of the network cards in `sys` (`/sys`): devices only, no bridges or tunnels. For a
/// card in a bond, its own address is listed, not the bond's (Linux,
/// `Documentation/ABI/testing/sysfs-class-net`).
#[must_use]
pub fn cards(sys: &Path) -> Vec<MacAddr> {
    let entries = std::fs::read_dir(sys.join("class/net"));
    let mut cards: Vec<MacAddr> = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|card| card.join("device").exists())
        .filter_map(|card| {
            let read = |name| std::fs::read_to_string(card.join(name)).ok();
            let own = read("bonding_slave/perm_hwaddr").or_else(|| read("address"))?;
            own.trim().parse().ok()
        })
        .collect();
    cards.sort_by_key(|card| card.0);
    cards.dedup();
    cards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_devices() {
        let sys = tempfile::tempdir().unwrap();
        let net = sys.path().join("class/net");
        for (name, address) in [
            ("eth0", "52:54:00:00:00:01"),
            ("lo", "00:00:00:00:00:00"),
            ("br0", "52:54:00:00:00:01"),
        ] {
            std::fs::create_dir_all(net.join(name)).unwrap();
            std::fs::write(net.join(name).join("address"), format!("{address}\n")).unwrap();
        }
        std::fs::create_dir(net.join("eth0/device")).unwrap();
        std::fs::create_dir_all(net.join("eth1/device")).unwrap();
        std::fs::create_dir(net.join("eth1/bonding_slave")).unwrap();
        std::fs::write(net.join("eth1/address"), "52:54:00:00:00:01\n").unwrap();
        std::fs::write(net.join("eth1/bonding_slave/perm_hwaddr"), "52:54:00:00:00:02\n").unwrap();
        let found: Vec<String> = cards(sys.path()).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["52:54:00:00:00:01", "52:54:00:00:00:02"]);
    }

    #[test]
    fn the_lines_below_a_bridge_on_a_bond_are_found() {
        let class = tempfile::tempdir().unwrap();
        for below in [
            "br0/lower_bond0",
            "bond0/lower_eth1",
            "bond0/lower_eth0",
            "bond0/upper_br0",
            "eth0/lower_br0",
        ] {
            std::fs::create_dir_all(class.path().join(below)).unwrap();
        }
        let lines = with_lower(class.path(), "br0".to_owned());
        assert_eq!(lines, ["br0", "bond0", "eth0", "eth1"]);
    }

    #[test]
    fn loopback_is_listed_without_a_hardware_address() {
        let found = addresses().unwrap();
        let lo = found
            .iter()
            .find(|entry| entry.addr == IpAddr::V4(Ipv4Addr::LOCALHOST))
            .unwrap();
        assert!(lo.loopback && lo.mac.is_none() && lo.broadcast.is_none());
        assert_eq!(mac_of(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap(), None);
    }
}
