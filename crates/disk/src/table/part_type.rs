//! Partition types: names, MBR type bytes and GPT type GUIDs, and their correspondence.
//!
//! The names are those of a desc file. GUIDs come from UEFI 2.10 table 5.7, the Discoverable Partitions
//! Specification (UAPI group) and Wikipedia's list for the vendors; type bytes from `sfdisk --list-types`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::{Uuid, uuid};

use super::TableKind;

/// The type of a partition in a desc file or a table.
///
/// It is written and read (also by serde) as the word of a desc file: `linux`, `extended`, `type8e`, or a
/// full GUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum PartType {
    /// A type by name, for every kind of table that has it.
    Named(KnownType),
    /// An MBR type byte (`typeXX` in a desc file; `extended` is 0x05).
    Mbr(u8),
    /// A GPT type GUID.
    Gpt(Uuid),
}

impl PartType {
    /// The extended partition of an MBR as the original desc grammar writes it.
    pub const EXTENDED: Self = Self::Mbr(0x05);

    /// True for the three bytes that make an MBR partition extended.
    ///
    /// 0x0f is Windows' "with LBA", 0x85 is Linux' own; the kernel treats them alike.
    pub fn is_extended(self) -> bool {
        matches!(self, Self::Mbr(0x05 | 0x0f | 0x85))
    }

    /// Returns the known type that this is or corresponds to, in any of its forms.
    pub fn known(self) -> Option<KnownType> {
        match self {
            Self::Named(known) => Some(known),
            Self::Mbr(byte) => KnownType::from_mbr(byte),
            Self::Gpt(guid) => KnownType::ALL.into_iter().find(|known| known.guid() == guid),
        }
    }

    /// Returns the same type in the terms of a `kind` table; `None` if that table has no such type.
    pub fn resolve(self, kind: TableKind) -> Option<Self> {
        match (self, kind) {
            (Self::Mbr(_), TableKind::Mbr) | (Self::Gpt(_), TableKind::Gpt) => Some(self),
            (_, TableKind::Mbr) => self.known()?.mbr_byte().map(Self::Mbr),
            (_, TableKind::Gpt) => self.known().map(|known| Self::Gpt(known.guid())),
        }
    }
}

impl fmt::Display for PartType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(known) => f.write_str(known.name()),
            Self::Mbr(0x05) => f.write_str("extended"),
            Self::Mbr(byte) => write!(f, "type{byte:02x}"),
            Self::Gpt(guid) => write!(f, "{guid}"),
        }
    }
}

/// A word that is no partition type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a partition type")]
pub struct UnknownType(pub String);

impl FromStr for PartType {
    type Err = UnknownType;

    fn from_str(word: &str) -> Result<Self, UnknownType> {
        let unknown = || UnknownType(word.to_owned());
        if word == "extended" {
            return Ok(Self::EXTENDED);
        }
        if let Some(known) = KnownType::ALL.into_iter().find(|known| known.name() == word) {
            return Ok(Self::Named(known));
        }
        if let Some(hex) = word.strip_prefix("type") {
            let plain = (1..=2).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit());
            return u8::from_str_radix(hex, 16)
                .ok()
                .filter(|_| plain)
                .map(Self::Mbr)
                .ok_or_else(unknown);
        }
        // Only the hyphenated form is valid: `Uuid` would also take braces and URNs.
        if word.len() == 36 {
            return Uuid::try_parse(word).map(Self::Gpt).map_err(|_| unknown());
        }
        Err(unknown())
    }
}

impl From<PartType> for String {
    fn from(kind: PartType) -> Self {
        kind.to_string()
    }
}

impl TryFrom<String> for PartType {
    type Error = UnknownType;

    fn try_from(word: String) -> Result<Self, UnknownType> {
        word.parse()
    }
}

/// A partition type that KA knows by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KnownType {
    /// `linux`: any Linux file system (MBR 83).
    Linux,
    /// `swap`: Linux swap (MBR 82).
    Swap,
    /// `esp`: EFI system partition (MBR ef).
    Esp,
    /// `bios`: BIOS boot partition, where GRUB puts its core image on GPT.
    Bios,
    /// `xbootldr`: extended boot loader partition (`/boot` beside an ESP; MBR ea).
    Xbootldr,
    /// `root-x86-64`: root file system, found by systemd without fstab.
    RootX8664,
    /// `root-x86`: root file system for 32-bit x86.
    RootX86,
    /// `root-arm64`: root file system for aarch64.
    RootArm64,
    /// `usr-x86-64`: file system for `/usr` on x86-64.
    UsrX8664,
    /// `home`: file system for `/home`.
    Home,
    /// `srv`: file system for `/srv`.
    Srv,
    /// `var`: file system for `/var`.
    Var,
    /// `tmp`: file system for `/var/tmp`.
    Tmp,
    /// `raid`: member of a Linux software RAID (MBR fd).
    Raid,
    /// `lvm`: physical volume (MBR 8e).
    Lvm,
    /// `luks`: encrypted volume (MBR e8).
    Luks,
    /// `msdata`: Windows file system, FAT or NTFS (MBR 07, and 01 04 06 0b 0c 0e on reading).
    MsData,
    /// `msr`: Microsoft reserved.
    Msr,
    /// `winre`: Windows recovery (MBR 27).
    WinRe,
    /// `prep`: PowerPC PReP boot (MBR 41).
    Prep,
}

impl KnownType {
    /// Every known type. A byte or GUID stands for the first type that has it.
    pub const ALL: [Self; 20] = [
        Self::Linux,
        Self::Swap,
        Self::Esp,
        Self::Bios,
        Self::Xbootldr,
        Self::RootX8664,
        Self::RootX86,
        Self::RootArm64,
        Self::UsrX8664,
        Self::Home,
        Self::Srv,
        Self::Var,
        Self::Tmp,
        Self::Raid,
        Self::Lvm,
        Self::Luks,
        Self::MsData,
        Self::Msr,
        Self::WinRe,
        Self::Prep,
    ];

    /// Returns the word of a desc file.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// Returns the MBR type byte; `None` if an MBR has no such type.
    ///
    /// An MBR does not tell one Linux file system from another, so `home`, `srv` and the like are 83 there.
    pub fn mbr_byte(self) -> Option<u8> {
        self.row().1
    }

    /// Returns the GPT type GUID.
    pub fn guid(self) -> Uuid {
        self.row().2
    }

    /// Returns the type that an MBR byte stands for.
    pub fn from_mbr(byte: u8) -> Option<Self> {
        match byte {
            0x01 | 0x04 | 0x06 | 0x0b | 0x0c | 0x0e => Some(Self::MsData),
            _ => Self::ALL.into_iter().find(|known| known.mbr_byte() == Some(byte)),
        }
    }

    fn row(self) -> (&'static str, Option<u8>, Uuid) {
        match self {
            Self::Linux => ("linux", Some(0x83), uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4")),
            Self::Swap => ("swap", Some(0x82), uuid!("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f")),
            Self::Esp => ("esp", Some(0xef), uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")),
            Self::Bios => ("bios", None, uuid!("21686148-6449-6e6f-744e-656564454649")),
            Self::Xbootldr => (
                "xbootldr",
                Some(0xea),
                uuid!("bc13c2ff-59e6-4262-a352-b275fd6f7172"),
            ),
            Self::RootX8664 => (
                "root-x86-64",
                Some(0x83),
                uuid!("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
            ),
            Self::RootX86 => (
                "root-x86",
                Some(0x83),
                uuid!("44479540-f297-41b2-9af7-d131d5f0458a"),
            ),
            Self::RootArm64 => (
                "root-arm64",
                Some(0x83),
                uuid!("b921b045-1df0-41c3-af44-4c6f280d3fae"),
            ),
            Self::UsrX8664 => (
                "usr-x86-64",
                Some(0x83),
                uuid!("8484680c-9521-48c6-9c11-b0720656f69e"),
            ),
            Self::Home => ("home", Some(0x83), uuid!("933ac7e1-2eb4-4f13-b844-0e14e2aef915")),
            Self::Srv => ("srv", Some(0x83), uuid!("3b8f8425-20e0-4f3b-907f-1a25a76f98e8")),
            Self::Var => ("var", Some(0x83), uuid!("4d21b016-b534-45c2-a9fb-5c16e091fd2d")),
            Self::Tmp => ("tmp", Some(0x83), uuid!("7ec6f557-3bc5-4aca-b293-16ef5df639d1")),
            Self::Raid => ("raid", Some(0xfd), uuid!("a19d880f-05fc-4d3b-a006-743f0f84911e")),
            Self::Lvm => ("lvm", Some(0x8e), uuid!("e6d6d379-f507-44c2-a23c-238f2a3df928")),
            Self::Luks => ("luks", Some(0xe8), uuid!("ca7d7ccb-63ed-4c53-861c-1742536059cc")),
            Self::MsData => (
                "msdata",
                Some(0x07),
                uuid!("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"),
            ),
            Self::Msr => ("msr", None, uuid!("e3c9e316-0b5c-4db8-817d-f92df00215ae")),
            Self::WinRe => ("winre", Some(0x27), uuid!("de94bba4-06d1-4d40-a16a-bfd50179d6ac")),
            Self::Prep => ("prep", Some(0x41), uuid!("9e1a2d38-c612-4316-aa26-8b49521e5a8b")),
        }
    }
}
