//! A machine as its DHCP request shows it: MAC, UUID, processor and firmware, stage of its boot.
//!
//! No file, no socket: `dhcp` fills it from a packet (options 60, 77, 93, 97, 175); the menu and the boot
//! programs read it. Architecture numbers: RFC 4578 §2.1 with its erratum, continued by IANA's "Processor
//! Architecture Types".

use std::fmt;

use ka_mac::MacAddr;

/// Processor and firmware, which decide the boot program. [`Machine::http`] tells how the program is fetched.
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
    /// A number without a boot program.
    Other(u16),
}

impl Arch {
    /// Returns the meaning of one number of option 93, and true if the number asks for HTTP boot.
    ///
    /// RFC 4578 swapped 7 (x64) and 9 (EFI byte code), an erratum swapped them back, and firmware of both
    /// readings is in the field. No machine boots byte code, so both mean x64. The same holds for 17, the
    /// HTTP form of 9.
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

/// True for IANA's other numbers whose name ends in "boot from http".
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

/// Stage of a machine's network boot.
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

/// Facts about a machine from one of its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// MAC address of its card (chaddr).
    pub mac: MacAddr,
    /// SMBIOS UUID, as sent (option 97). Firmware of the same board may swap the bytes of the first three
    /// fields.
    pub uuid: Option<[u8; 16]>,
    /// Processor and firmware (option 93).
    pub arch: Arch,
    /// True if iPXE sent the request (option 77 `iPXE`, or option 175). It gets a script, never iPXE again.
    pub ipxe: bool,
    /// True if the machine boots by HTTP: option 60 `HTTPClient`, or an HTTP number in option 93. It wants a
    /// URL, not a TFTP name.
    pub http: bool,
    /// Option 60 in full, such as `PXEClient:Arch:00007:UNDI:003016`.
    pub vendor_class: Option<String>,
}

impl Machine {
    /// Stage of the machine's network boot.
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
