//! The identity of a node from one round to the next, and over a restart of the server: numbers, ports and
//! connections change, the machine stays.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use ka_mac::MacAddr;

/// A machine, as it introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// MAC address, if the machine gave it.
    #[serde(default, with = "ka_mac::octets")]
    pub mac: Option<MacAddr>,
    /// Its host name.
    pub name: String,
    /// Its address.
    pub addr: IpAddr,
}

impl Identity {
    /// Returns true if both are one machine: the same name with the same MAC address, or with the same
    /// address if one of them gave no MAC address. The name counts in both cases, because several nodes on
    /// one machine share its MAC address.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        let same_place = match (self.mac, other.mac) {
            (Some(one), Some(other)) => one == other,
            _ => self.addr == other.addr,
        };
        same_place && self.name == other.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(mac: Option<u8>, name: &str, last: u8) -> Identity {
        Identity {
            mac: mac.map(|last| MacAddr([2, 0, 0, 0, 0, last])),
            name: name.to_owned(),
            addr: IpAddr::from([10, 0, 0, last]),
        }
    }

    #[test]
    fn a_machine_is_known_by_its_hardware_address_and_else_by_its_address() {
        assert!(
            node(Some(1), "n1", 1).is(&node(Some(1), "n1", 99)),
            "another lease"
        );
        assert!(
            !node(Some(1), "n1", 1).is(&node(Some(2), "n1", 1)),
            "another machine took its lease"
        );
        assert!(node(None, "n1", 1).is(&node(Some(1), "n1", 1)));
        assert!(!node(None, "n1", 1).is(&node(None, "n1", 2)));
        assert!(
            !node(Some(1), "n1", 1).is(&node(Some(1), "n2", 1)),
            "two nodes on one machine"
        );
    }
}
