//! The wiring of a machine: the switch port at the other end of its line, as the switch tells it (LLDP, IEEE
//! 802.1AB).
//!
//! Not here: LLDP itself (`crates/lldp`), the order of the chain ([`crate::order`]).
//! Specification: `docs/protocol.md`, "Order of the chain".

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::PlaceName;

/// The switch port at the other end of a machine's line. Everything in it is a stranger's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wiring {
    /// Identifier of the switch (Chassis ID). It alone tells two switches apart.
    pub chassis: PlaceName,
    /// Name of the switch for people (System Name), if it has one.
    pub system_name: Option<PlaceName>,
    /// The port of the switch (Port ID): `Gi1/0/7`.
    pub port: PlaceName,
    /// The VLAN of untagged frames at that port (Port VLAN ID), if the switch tells it.
    pub vlan: Option<u16>,
    /// Speed of the line in Mbit/s, as the machine's own interface has it.
    pub speed_mbit: Option<u32>,
}

impl Wiring {
    /// Returns the name of the switch for people: its system name, else its identifier.
    #[must_use]
    pub fn switch(&self) -> &str {
        self.system_name.as_ref().unwrap_or(&self.chassis).as_str()
    }

    /// True if both lines end at the same switch.
    #[must_use]
    pub fn is_same_switch(&self, other: &Self) -> bool {
        self.chassis == other.chassis
    }
}

impl fmt::Display for Wiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "switch {} port {}", self.switch(), self.port)?;
        if let Some(vlan) = self.vlan {
            write!(f, ", VLAN {vlan}")?;
        }
        if let Some(speed) = self.speed_mbit {
            write!(f, ", {speed} Mbit/s")?;
        }
        Ok(())
    }
}

/// Compares two names as people do: `Gi1/0/2` comes before `Gi1/0/10`. Names that differ only in leading zeros
/// are compared as text.
#[must_use]
pub fn natural_order(one: &str, other: &str) -> Ordering {
    let (mut rest, mut other_rest) = (one.as_bytes(), other.as_bytes());
    while let (Some(a), Some(b)) = (rest.first(), other_rest.first()) {
        let order = if a.is_ascii_digit() && b.is_ascii_digit() {
            let (number, left) = split_number(rest);
            let (other_number, other_left) = split_number(other_rest);
            (rest, other_rest) = (left, other_left);
            (number.len(), number).cmp(&(other_number.len(), other_number))
        } else {
            let order = a.cmp(b);
            (rest, other_rest) = (&rest[1..], &other_rest[1..]);
            order
        };
        if order.is_ne() {
            return order;
        }
    }
    (rest.len().cmp(&other_rest.len())).then_with(|| one.cmp(other))
}

/// Splits the number off the beginning of a text. The number comes without leading zeros.
fn split_number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit());
    let (number, rest) = text.split_at(end.unwrap_or(text.len()));
    let zeros = number.iter().take_while(|byte| **byte == b'0').count();
    (&number[zeros..], rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_in_names_are_compared_as_numbers() {
        let sorted = [
            "Gi1/0/1", "Gi1/0/2", "Gi1/0/10", "Gi2/0/1", "Te1/1", "eth", "eth0", "eth00", "eth1", "eth10",
        ];
        for pair in sorted.windows(2) {
            assert_eq!(natural_order(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
        let long = "9".repeat(60);
        assert_eq!(natural_order(&long, &format!("1{long}")), Ordering::Less);
    }

    #[test]
    fn a_port_is_told_in_one_line() {
        let mut wiring = Wiring {
            chassis: PlaceName::new("00:1b:21:aa:bb:cc").unwrap(),
            system_name: None,
            port: PlaceName::new("7").unwrap(),
            vlan: None,
            speed_mbit: None,
        };
        assert_eq!(wiring.to_string(), "switch 00:1b:21:aa:bb:cc port 7");
        wiring.system_name = PlaceName::new("core-1").ok();
        (wiring.vlan, wiring.speed_mbit) = (Some(20), Some(1000));
        assert_eq!(wiring.to_string(), "switch core-1 port 7, VLAN 20, 1000 Mbit/s");
    }

    proptest! {
        #[test]
        fn the_natural_order_is_an_order(names in proptest::collection::vec("[a0-3/]{0,6}", 3)) {
            let [a, b, c] = [&names[0], &names[1], &names[2]];
            prop_assert_eq!(natural_order(a, b), natural_order(b, a).reverse());
            prop_assert_eq!(natural_order(a, b) == Ordering::Equal, a == b);
            if natural_order(a, b).is_le() && natural_order(b, c).is_le() {
                prop_assert!(natural_order(a, c).is_le(), "{:?} {:?} {:?}", a, b, c);
            }
        }
    }
}
