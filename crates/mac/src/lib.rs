//! The Ethernet address: one type for the wire, for files, for the command line and for the screen.
//!
//! It has a crate of its own, because unrelated crates use it: `proto` in its messages, `host` for the cards
//! of this machine, `dhcp` in packets, `pxe` in its lists. It depends on no other crate of ours.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A hardware address of six bytes (IEEE 802 MAC-48).
///
/// Its text form is `52:54:00:12:34:56`. A format for people (JSON) stores the text, a binary one (postcard)
/// the six bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The address of no card. A packet without a sender has it in the sender's field.
    pub const ZERO: Self = Self([0; 6]);
    /// The broadcast address.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// True if a card may have the address: it is neither all zeros nor a group address.
    #[must_use]
    pub fn is_unicast(&self) -> bool {
        *self != Self::ZERO && self.0[0] & 1 == 0
    }

    /// The form that PXELINUX and `BOOTIF=` use behind the hardware type: `52-54-00-12-34-56`.
    #[must_use]
    pub fn dashed(&self) -> String {
        self.to_string().replace(':', "-")
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A text that is not an Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no MAC address: twelve hex digits, as 52:54:00:12:34:56, 5254.0012.3456 or 525400123456")]
pub struct BadMac(String);

impl FromStr for MacAddr {
    type Err = BadMac;

    /// Parses the forms that devices print and people type, in either case: pairs of hex digits separated by
    /// colons or by dashes, groups of four separated by dots (Cisco), and twelve digits without a separator.
    fn from_str(text: &str) -> Result<Self, BadMac> {
        let octets = match text.bytes().find(|byte| !byte.is_ascii_hexdigit()) {
            Some(b':') => grouped(text, ':', 2),
            Some(b'-') => grouped(text, '-', 2),
            Some(b'.') => grouped(text, '.', 4),
            Some(_) => None,
            None => octets_of(text),
        };
        octets.map(Self).ok_or_else(|| BadMac(text.to_owned()))
    }
}

/// Returns the octets of groups that have `digits` hex digits each.
fn grouped(text: &str, separator: char, digits: usize) -> Option<[u8; 6]> {
    let mut groups = text.split(separator);
    let is_even = groups.all(|group| group.len() == digits);
    is_even.then(|| octets_of(&text.replace(separator, "")))?
}

/// Returns the octets of exactly twelve hex digits.
fn octets_of(digits: &str) -> Option<[u8; 6]> {
    let is_whole = digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u64::from_str_radix(digits, 16).ok().filter(|_| is_whole)?;
    let [_, _, octets @ ..] = number.to_be_bytes();
    Some(octets)
}

impl Serialize for MacAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            return text.parse().map_err(serde::de::Error::custom);
        }
        <[u8; 6]>::deserialize(deserializer).map(Self)
    }
}

/// An address that may be missing, as a list of six numbers in every format: for `#[serde(default, with =
/// "…")]`.
///
/// Files that are older than the text form have numbers: an unfinished run of the server, the beacon of a
/// clone.
pub mod octets {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::MacAddr;

    /// Writes six numbers, or nothing.
    ///
    /// # Errors
    /// Fails as the format does.
    pub fn serialize<S: Serializer>(mac: &Option<MacAddr>, serializer: S) -> Result<S::Ok, S::Error> {
        mac.map(|mac| mac.0).serialize(serializer)
    }

    /// Reads six numbers, or nothing.
    ///
    /// # Errors
    /// Fails as the format does, and on another count of numbers.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MacAddr>, D::Error> {
        Ok(Option::<[u8; 6]>::deserialize(deserializer)?.map(MacAddr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    #[test]
    fn a_mac_is_read_as_people_and_switches_write_it_in_either_case() {
        let mac = MacAddr([0x52, 0x54, 0x00, 0xab, 0xcd, 0xef]);
        for text in [
            "52:54:00:ab:cd:ef",
            "52-54-00-AB-CD-EF",
            "5254.00ab.cdef",
            "5254.00AB.CDEF",
            "525400abcdef",
        ] {
            assert_eq!(text.parse(), Ok(mac), "{text}");
        }
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:ef");
        assert_eq!(mac.dashed(), "52-54-00-ab-cd-ef");
        assert_eq!(MacAddr([2, 0, 0xab, 0, 0, 1]).to_string(), "02:00:ab:00:00:01");
    }

    #[test]
    fn what_is_no_mac_is_refused_with_its_text() {
        for text in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:01:02",
            "52:54:00:ab:cd:ef:01",
            "52:54-00:ab:cd:ef",
            "5:54:00:ab:cd:ef",
            "52:54:0:1:2:ff",
            "+5:54:00:ab:cd:ef",
            "52:54:00:ab:cd:eg",
            "525400abcde",
            "525400abcdef0",
            "5254.00ab",
            "52.54.00.ab.cd.ef",
            "525.400a.bcdef",
            "5254:00ab:cdef",
            "5254.00ab-cdef",
            "5254..00ab.cdef",
            "+25400abcdef",
            "é25400abcdef",
        ] {
            let refused = text.parse::<MacAddr>().unwrap_err().to_string();
            assert!(refused.contains(&format!("`{text}`")), "{refused}");
        }
    }

    #[test]
    fn groups_and_nobody_are_no_cards() {
        assert!(MacAddr([2, 0, 0, 0, 0, 1]).is_unicast());
        for mac in [MacAddr::ZERO, MacAddr::BROADCAST, MacAddr([1, 0, 0x5e, 0, 0, 1])] {
            assert!(!mac.is_unicast(), "{mac}");
        }
    }

    #[test]
    fn a_mac_is_text_in_json_also_as_a_key() {
        let json = serde_json::to_string(&MAC).unwrap();
        assert_eq!(json, "\"52:54:00:12:34:56\"");
        assert_eq!(serde_json::from_str::<MacAddr>(&json).unwrap(), MAC);
        assert!(serde_json::from_str::<MacAddr>("\"52:54\"").is_err());
        let map = std::collections::BTreeMap::from([(MAC, 1)]);
        let json = serde_json::to_string(&map).unwrap();
        assert_eq!(json, "{\"52:54:00:12:34:56\":1}");
        assert_eq!(
            serde_json::from_str::<std::collections::BTreeMap<MacAddr, i32>>(&json).unwrap(),
            map
        );
    }

    #[test]
    fn a_mac_is_its_six_bytes_on_the_wire() {
        assert_eq!(postcard::to_stdvec(&MAC).unwrap(), MAC.0);
        assert_eq!(postcard::from_bytes::<MacAddr>(&MAC.0).unwrap(), MAC);
        assert!(postcard::from_bytes::<MacAddr>(&MAC.0[..5]).is_err());
    }

    #[test]
    fn old_files_have_numbers() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Old {
            #[serde(default, with = "octets")]
            mac: Option<MacAddr>,
        }
        for (old, json) in [
            (Old { mac: Some(MAC) }, "{\"mac\":[82,84,0,18,52,86]}"),
            (Old { mac: None }, "{\"mac\":null}"),
        ] {
            assert_eq!(serde_json::to_string(&old).unwrap(), json);
            assert_eq!(serde_json::from_str::<Old>(json).unwrap(), old);
        }
        assert_eq!(serde_json::from_str::<Old>("{}").unwrap(), Old { mac: None });
    }

    proptest::proptest! {
        #[test]
        fn every_address_is_read_from_all_forms(octets: [u8; 6]) {
            let mac = MacAddr(octets);
            let bare = mac.to_string().replace(':', "");
            let dotted = format!("{}.{}.{}", &bare[..4], &bare[4..8], &bare[8..]);
            proptest::prop_assert_eq!(bare.parse(), Ok(mac));
            proptest::prop_assert_eq!(dotted.parse(), Ok(mac));
            proptest::prop_assert_eq!(mac.to_string().parse(), Ok(mac));
            proptest::prop_assert_eq!(mac.dashed().to_uppercase().parse(), Ok(mac));
        }

        #[test]
        fn random_text_does_not_panic(text in ".{0,24}") {
            let _ = text.parse::<MacAddr>();
        }
    }
}
