//! The machine's network interfaces as the kernel lists them in `/sys/class/net`: MAC address, carrier.
//! [`crate::route`] brings them up and gives them addresses.

use std::fs;
use std::path::Path;

use ka_mac::MacAddr;

/// `ARPHRD_ETHER` of `linux/if_arp.h`.
const ETHERNET: &str = "1";
/// The most interfaces that are read, against a broken driver: more than any machine has.
const MAX_INTERFACES: usize = 256;

/// An Ethernet interface with a device behind it (no bridge, bond, tunnel or loopback).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Name of the interface: `eth0`.
    pub name: String,
    /// Number that the kernel gives the interface.
    pub index: u32,
    /// MAC address of the interface.
    pub mac: MacAddr,
    /// True if there is a signal on the wire; an interface that is down has none.
    pub carrier: bool,
}

/// Lists every Ethernet interface by index, which is the order in which drivers found them.
#[must_use]
pub fn ethernet() -> Vec<Link> {
    ethernet_in(Path::new("/sys/class/net"))
}

/// Returns the interface `name`, when it is an Ethernet one.
#[must_use]
pub fn find(name: &str) -> Option<Link> {
    ethernet().into_iter().find(|link| link.name == name)
}

fn ethernet_in(class: &Path) -> Vec<Link> {
    let Ok(entries) = fs::read_dir(class) else {
        return Vec::new();
    };
    let mut links: Vec<Link> = entries
        .flatten()
        .take(MAX_INTERFACES)
        .filter_map(|entry| read(&entry.path()))
        .collect();
    links.sort_by_key(|link| link.index);
    links
}

fn read(dir: &Path) -> Option<Link> {
    let text = |file: &str| Some(fs::read_to_string(dir.join(file)).ok()?.trim().to_owned());
    let is_bridge_or_bond = dir.join("bridge").exists() || dir.join("bonding").exists();
    if text("type")? != ETHERNET || is_bridge_or_bond {
        return None;
    }
    Some(Link {
        name: dir.file_name()?.to_str()?.to_owned(),
        index: text("ifindex")?.parse().ok()?,
        mac: text("address")?.parse().ok()?,
        // Reading the carrier of an interface that is down is EINVAL.
        carrier: text("carrier").is_some_and(|value| value == "1"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(class: &Path, name: &str, files: &[(&str, &str)]) {
        fs::create_dir(class.join(name)).unwrap();
        for (file, text) in files {
            fs::write(class.join(name).join(file), format!("{text}\n")).unwrap();
        }
    }

    #[test]
    fn ethernet_interfaces_are_listed_in_the_order_of_the_drivers_and_nothing_else_is() {
        let class = tempfile::tempdir().unwrap();
        let mac = "52:54:00:00:00:01";
        interface(
            class.path(),
            "lo",
            &[
                ("type", "772"),
                ("ifindex", "1"),
                ("address", "00:00:00:00:00:00"),
            ],
        );
        interface(
            class.path(),
            "eth1",
            &[
                ("type", "1"),
                ("ifindex", "2"),
                ("address", mac),
                ("carrier", "1"),
            ],
        );
        interface(
            class.path(),
            "eth0",
            &[("type", "1"), ("ifindex", "3"), ("address", mac)],
        );
        interface(
            class.path(),
            "br0",
            &[("type", "1"), ("ifindex", "4"), ("address", mac), ("bridge", "")],
        );
        interface(
            class.path(),
            "ib0",
            &[("type", "32"), ("ifindex", "5"), ("address", mac)],
        );
        let seen: Vec<_> = ethernet_in(class.path())
            .into_iter()
            .map(|link| (link.name, link.carrier))
            .collect();
        assert_eq!(seen, [("eth1".to_owned(), true), ("eth0".to_owned(), false)]);
    }
}
