//! Network interfaces: addresses, broadcast addresses and hardware addresses (getifaddrs(3)).

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::str::FromStr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use crate::HostError;

/// A hardware address of six bytes. Displays as `52:54:00:12:34:56`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddr {
    type Err = MacAddrError;

    /// Six groups of two hexadecimal digits, with colons or dashes between them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 6];
        let mut groups = text.split([':', '-']);
        for byte in &mut bytes {
            let group = groups.next().ok_or(MacAddrError)?;
            let digits = group.len() == 2 && group.bytes().all(|digit| digit.is_ascii_hexdigit());
            *byte = digits
                .then(|| u8::from_str_radix(group, 16).ok())
                .flatten()
                .ok_or(MacAddrError)?;
        }
        groups.next().is_none().then_some(Self(bytes)).ok_or(MacAddrError)
    }
}

/// A text is no hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a hardware address, as 52:54:00:12:34:56")]
pub struct MacAddrError;

/// One address of one interface that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceAddr {
    /// The interface: `eth0`.
    pub name: String,
    /// The address.
    pub addr: IpAddr,
    /// Where a datagram for everybody on that wire goes; IPv4 interfaces that can broadcast only.
    pub broadcast: Option<Ipv4Addr>,
    /// The interface's hardware address; loopback and tunnels have none.
    pub mac: Option<MacAddr>,
    /// The interface is loopback.
    pub loopback: bool,
}

/// Every address of every interface that is up.
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

/// The hardware address of the interface that has `addr`; `None` when no interface has it, or it has no MAC.
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

/// The hardware addresses of the network cards that `sys` (`/sys`) shows: what is a device, not a bridge or a tunnel. A card that is
/// in a bond has its own address too (Linux, `Documentation/ABI/testing/sysfs-class-net`).
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
    fn loopback_is_listed_without_a_hardware_address() {
        let found = addresses().unwrap();
        let lo = found
            .iter()
            .find(|entry| entry.addr == IpAddr::V4(Ipv4Addr::LOCALHOST))
            .unwrap();
        assert!(lo.loopback && lo.mac.is_none() && lo.broadcast.is_none());
        assert_eq!(mac_of(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap(), None);
    }

    #[test]
    fn hardware_addresses_are_written_as_usual() {
        assert_eq!(
            MacAddr([0x52, 0x54, 0, 1, 2, 0xff]).to_string(),
            "52:54:00:01:02:ff"
        );
    }

    #[test]
    fn hardware_addresses_are_read_with_colons_or_dashes_and_nothing_else() {
        let mac = MacAddr([0x52, 0x54, 0, 1, 2, 0xff]);
        assert_eq!("52:54:00:01:02:ff".parse(), Ok(mac));
        assert_eq!("52-54-00-01-02-FF".parse(), Ok(mac));
        for bad in [
            "",
            "52:54:00:01:02",
            "52:54:00:01:02:ff:00",
            "52:54:0:1:2:ff",
            "+2:54:00:01:02:ff",
            "5254000102ff",
        ] {
            assert_eq!(bad.parse::<MacAddr>(), Err(MacAddrError), "{bad}");
        }
    }
}
