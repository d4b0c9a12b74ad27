//! The network interface that a group uses, and its speed.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use ka_mac::MacAddr;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;

/// Bits in a megabit, the unit of the kernel's `speed` file.
const MEGABIT: u64 = 1_000_000;

/// Returns the address under which an end of a connection can use groups, or `None` over IPv6. A listener for both
/// families names an IPv4 address in the form of IPv6.
#[must_use]
pub const fn group_address(end: IpAddr) -> Option<Ipv4Addr> {
    match end.to_canonical() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// One interface of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    name: String,
    index: u32,
    mac: Option<MacAddr>,
}

impl Interface {
    /// Finds the interface that has this address: the one of the control connection.
    ///
    /// # Errors
    /// No interface has it, or the kernel lists none.
    pub fn with_address(local: Ipv4Addr) -> io::Result<Self> {
        let entries: Vec<_> = getifaddrs()?.collect();
        let holder = entries.iter().find(|entry| {
            let address = entry
                .address
                .as_ref()
                .and_then(|address| address.as_sockaddr_in());
            // All of 127.0.0.0/8 is on the loopback interface, which lists one address of it.
            address.is_some_and(|address| {
                address.ip() == local || address.ip().is_loopback() && local.is_loopback()
            })
        });
        let Some(holder) = holder else {
            let message = format!("no interface of this machine has the address {local}");
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, message));
        };
        let name = holder.interface_name.clone();
        let mac = entries
            .iter()
            .filter(|entry| entry.interface_name == name)
            .find_map(|entry| entry.address?.as_link_addr()?.addr())
            .map(MacAddr);
        let index = if_nametoindex(name.as_str())?;
        Ok(Self { name, index, mac })
    }

    /// Returns its name, such as `eth0`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its speed in bits a second, if it is known (Linux, `Documentation/ABI/testing/sysfs-class-net`).
    /// Virtual cards name a constant that says nothing about the line behind them, so theirs is not known.
    #[must_use]
    pub fn speed(&self) -> Option<u64> {
        self.speed_in(Path::new("/sys"))
    }

    fn speed_in(&self, sys: &Path) -> Option<u64> {
        let dir = sys.join("class/net").join(&self.name);
        let read = |name| fs::read_to_string(dir.join(name)).ok();
        // `/sys` may show another network namespace, with an interface of the same name.
        let same_index = read("ifindex")?.trim().parse() == Ok(self.index);
        let same_mac = read("address")?.trim().parse().ok() == self.mac;
        if !same_index || !same_mac || !is_on_a_card(&dir) {
            return None;
        }
        let megabits: i64 = read("speed")?.trim().parse().ok()?;
        // -1: not known, for instance without a cable.
        let megabits = u64::try_from(megabits).ok().filter(|speed| *speed > 0)?;
        megabits.checked_mul(MEGABIT)
    }
}

/// True for a card with a device, and for a bond, a bridge or a VLAN on other interfaces.
fn is_on_a_card(dir: &Path) -> bool {
    let is_lower = |path: PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        name.is_some_and(|name| name.starts_with("lower_"))
    };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    dir.join("device").exists() || entries.into_iter().any(|entry| is_lower(entry.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: &str = "52:54:00:00:00:01";

    fn eth0(sys: &Path, speed: &str) -> Interface {
        let dir = sys.join("class/net/eth0");
        fs::create_dir_all(dir.join("device")).unwrap();
        for (name, text) in [("ifindex", "7"), ("address", MAC), ("speed", speed)] {
            fs::write(dir.join(name), format!("{text}\n")).unwrap();
        }
        Interface {
            name: "eth0".to_owned(),
            index: 7,
            mac: MAC.parse().ok(),
        }
    }

    #[test]
    fn speed_is_the_card_s() {
        let sys = tempfile::tempdir().unwrap();
        assert_eq!(eth0(sys.path(), "1000").speed_in(sys.path()), Some(1_000_000_000));
        for unknown in ["-1", "0", "", "fast"] {
            assert_eq!(eth0(sys.path(), unknown).speed_in(sys.path()), None, "{unknown}");
        }
    }

    #[test]
    fn speed_of_another_namespace_s_card_or_of_a_virtual_one_is_not_taken() {
        let sys = tempfile::tempdir().unwrap();
        let mut interface = eth0(sys.path(), "1000");
        interface.index = 8;
        assert_eq!(interface.speed_in(sys.path()), None);
        interface.index = 7;
        interface.mac = None;
        assert_eq!(interface.speed_in(sys.path()), None);
        let dir = sys.path().join("class/net/eth0");
        let interface = eth0(sys.path(), "10000");
        fs::remove_dir(dir.join("device")).unwrap();
        assert_eq!(interface.speed_in(sys.path()), None);
        fs::create_dir(dir.join("lower_eth1")).unwrap();
        assert_eq!(interface.speed_in(sys.path()), Some(10_000_000_000));
    }

    #[test]
    fn ipv4_connection_of_a_listener_for_both_families_can_use_groups() {
        let local = Ipv4Addr::new(10, 0, 0, 1);
        assert_eq!(group_address(local.into()), Some(local));
        assert_eq!(group_address(local.to_ipv6_mapped().into()), Some(local));
        assert_eq!(group_address("fe80::1".parse().unwrap()), None);
    }

    #[test]
    fn loopback_has_no_known_speed() {
        let lo = Interface::with_address(Ipv4Addr::LOCALHOST).unwrap();
        assert_eq!((lo.name(), lo.speed()), ("lo", None));
        assert_eq!(Interface::with_address(Ipv4Addr::new(127, 0, 7, 1)).unwrap(), lo);
        let missing = Interface::with_address(Ipv4Addr::new(192, 0, 2, 1)).unwrap_err();
        assert!(missing.to_string().contains("192.0.2.1"), "{missing}");
    }
}
