//! A machine as it shows itself in a DHCP request: its MAC, its UUID, its processor and firmware, how far its boot is.
//!
//! No file, no socket: `dhcp` fills it from a packet (options 60, 77, 93, 97, 175), the menu and the boot programs read
//! it. Arch numbers: RFC 4578 §2.1 with its erratum, continued by IANA's "Processor Architecture Types".

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// No card's address: the sender's field of a packet that has none.
    pub const ZERO: Self = Self([0; 6]);
    /// Everyone on the wire.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// A card may have it: neither all zeros nor a group address.
    #[must_use]
    pub fn is_unicast(&self) -> bool {
        *self != Self::ZERO && self.0[0] & 1 == 0
    }

    /// As PXELINUX and `BOOTIF=` write it behind the hardware type: `52-54-00-12-34-56`.
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

/// Text that is no Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no MAC address: six pairs of hex digits, as 52:54:00:12:34:56")]
pub struct BadMac(String);

impl FromStr for MacAddr {
    type Err = BadMac;

    /// Six pairs of hex digits, in either case, with colons or dashes between.
    fn from_str(text: &str) -> Result<Self, BadMac> {
        let bad = || BadMac(text.to_owned());
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut octets = [0; 6];
        let mut pairs = text.split(separator);
        for octet in &mut octets {
            let pair = pairs.next().ok_or_else(bad)?;
            if pair.len() != 2 || !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *octet = u8::from_str_radix(pair, 16).map_err(|_| bad())?;
        }
        pairs.next().is_none().then_some(Self(octets)).ok_or_else(bad)
    }
}

impl TryFrom<String> for MacAddr {
    type Error = BadMac;

    fn try_from(text: String) -> Result<Self, BadMac> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

/// Processor and firmware, which decide the boot program. How the program is fetched is apart: [`Machine::http`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// x86 with a BIOS (0; 20 by HTTP).
    Bios,
    /// x64 UEFI (7, 9; 16, 17 by HTTP).
    EfiX64,
    /// 32-bit x86 UEFI (6; 15 by HTTP).
    EfiIa32,
    /// 64-bit ARM UEFI (11; 19 by HTTP).
    EfiArm64,
    /// A number that we have no boot program for.
    Other(u16),
}

impl Arch {
    /// The meaning of one number of option 93, and whether it asks for HTTP boot.
    ///
    /// RFC 4578 swapped 7 (x64) and 9 (EFI byte code), an erratum swapped them back, and firmware of both readings is in
    /// the field; no machine boots byte code, so both mean x64. The same holds for 17, the HTTP form of 9.
    #[must_use]
    pub fn of_number(number: u16) -> (Self, bool) {
        match number {
            0 => (Self::Bios, false),
            6 => (Self::EfiIa32, false),
            7 | 9 => (Self::EfiX64, false),
            11 => (Self::EfiArm64, false),
            15 => (Self::EfiIa32, true),
            16 | 17 => (Self::EfiX64, true),
            19 => (Self::EfiArm64, true),
            20 => (Self::Bios, true),
            other => (Self::Other(other), other_is_http(other)),
        }
    }
}

/// IANA's other numbers whose name ends in "boot from http".
fn other_is_http(number: u16) -> bool {
    matches!(number, 18 | 23 | 24 | 26 | 28 | 30 | 38 | 40)
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bios => f.write_str("BIOS"),
            Self::EfiX64 => f.write_str("UEFI x64"),
            Self::EfiIa32 => f.write_str("UEFI ia32"),
            Self::EfiArm64 => f.write_str("UEFI arm64"),
            Self::Other(number) => write!(f, "arch {number}"),
        }
    }
}

/// How far a machine's network boot is, as its request tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The firmware's PXE ROM asks for its first program.
    Firmware,
    /// UEFI HTTP boot asks for its first program.
    HttpFirmware,
    /// iPXE runs and asks for its script.
    Ipxe,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Firmware => "PXE",
            Self::HttpFirmware => "HTTP boot",
            Self::Ipxe => "iPXE",
        })
    }
}

/// What one request says of the machine behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its card (chaddr).
    pub mac: MacAddr,
    /// SMBIOS UUID, as sent (option 97); firmware of the same board may swap the bytes of its first three fields.
    pub uuid: Option<[u8; 16]>,
    /// Processor and firmware (option 93).
    pub arch: Arch,
    /// iPXE is what asks (option 77 `iPXE`, or option 175): it gets a script, never iPXE again.
    pub ipxe: bool,
    /// It boots by HTTP: option 60 `HTTPClient`, or an HTTP number in option 93. It wants a URL, not a TFTP name.
    pub http: bool,
    /// Option 60 in full, as `PXEClient:Arch:00007:UNDI:003016`.
    pub vendor_class: Option<String>,
}

impl Machine {
    /// How far its boot is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match (self.ipxe, self.http) {
            (true, _) => Stage::Ipxe,
            (false, true) => Stage::HttpFirmware,
            (false, false) => Stage::Firmware,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_read_with_colons_and_dashes_in_either_case() {
        let mac = MacAddr([0x52, 0x54, 0x00, 0xab, 0xcd, 0xef]);
        for text in ["52:54:00:ab:cd:ef", "52-54-00-AB-CD-EF"] {
            assert_eq!(text.parse(), Ok(mac));
        }
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:ef");
        assert_eq!(mac.dashed(), "52-54-00-ab-cd-ef");
    }

    #[test]
    fn what_is_no_mac_is_refused_with_its_text() {
        for text in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:ef:01",
            "52:54-00:ab:cd:ef",
            "5:54:00:ab:cd:ef",
            "+5:54:00:ab:cd:ef",
            "52:54:00:ab:cd:eg",
            "525400abcdef",
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
    fn a_mac_is_text_in_json() {
        let mac = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        let json = serde_json::to_string(&mac).unwrap();
        assert_eq!(json, "\"52:54:00:12:34:56\"");
        assert_eq!(serde_json::from_str::<MacAddr>(&json).unwrap(), mac);
        assert!(serde_json::from_str::<MacAddr>("\"52:54\"").is_err());
    }

    #[test]
    fn numbers_of_both_readings_of_rfc_4578_are_x64() {
        for (number, arch, http) in [
            (0, Arch::Bios, false),
            (6, Arch::EfiIa32, false),
            (7, Arch::EfiX64, false),
            (9, Arch::EfiX64, false),
            (11, Arch::EfiArm64, false),
            (15, Arch::EfiIa32, true),
            (16, Arch::EfiX64, true),
            (17, Arch::EfiX64, true),
            (19, Arch::EfiArm64, true),
            (20, Arch::Bios, true),
            (10, Arch::Other(10), false),
            (28, Arch::Other(28), true),
            (65535, Arch::Other(65535), false),
        ] {
            assert_eq!(Arch::of_number(number), (arch, http), "{number}");
        }
    }
}
