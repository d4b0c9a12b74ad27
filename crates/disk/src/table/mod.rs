//! Partition tables as they stand on a disk: MBR with its chain of extended boot records, and GPT.
//!
//! This module converts a table to and from bytes. [`crate::layout`] decides the places of partitions.
//! Specification: UEFI 2.10 chapter 5 (GPT, protective MBR); for MBR and EBR what util-linux and the kernel's
//! `block/partitions/msdos.c` agree on.

mod boot_record;
mod chs;
mod crc32;
mod disk;
mod ebr;
mod error;
mod flaws;
mod gpt;
mod gpt_read;
mod mbr;
mod oddities;
mod part_type;
mod read;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use crc32::crc32;
pub use error::TableError;
pub use oddities::oddities;
pub use part_type::{KnownType, PartType, UnknownType};
pub use read::{read, read_from, read_lost_gpt};

pub(crate) use flaws::is_sector_size;
pub(crate) use gpt::USUAL_ENTRIES;

/// Length in bytes of the boot code in the master boot record, disk signature included.
pub const BOOT_CODE_LEN: usize = 446;

/// Sectors that the 32-bit numbers of an MBR can address.
pub(crate) const MBR_SECTORS: u64 = 1 << 32;

/// The two kinds of partition table that KA reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    /// The PC's master boot record, with at most four primary partitions and 32-bit sector numbers.
    Mbr,
    /// The GUID partition table of UEFI.
    Gpt,
}

impl TableKind {
    /// Returns the end of what partitions may use on a disk, in bytes from its start. A GPT of the usual size
    /// keeps its backup behind them, an MBR nothing.
    pub(crate) fn usable_end_bytes(self, disk_bytes: u64, sector_size: u32) -> u64 {
        match self {
            Self::Mbr => disk_bytes,
            Self::Gpt => gpt::usable_end_bytes(disk_bytes, sector_size, USUAL_ENTRIES),
        }
    }
}

/// The id of the disk as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskId {
    /// The 32-bit disk signature at byte 440 of the master boot record.
    Mbr(u32),
    /// The disk GUID of the GPT header.
    Gpt(Uuid),
}

/// A whole partition table, independent of how it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionTable {
    /// Format of the table.
    pub kind: TableKind,
    /// Disk signature or GUID.
    pub disk_id: DiskId,
    /// Logical sector size in bytes that the table counts in.
    pub sector_size: u32,
    /// Size of the disk in bytes.
    pub disk_bytes: u64,
    /// True if the protective entry in front of a GPT is active: some BIOSes start nothing else. Never on an
    /// MBR.
    #[serde(default)]
    pub pmbr_boot: bool,
    /// The partitions in the order of their numbers.
    pub partitions: Vec<Partition>,
}

/// One partition of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Number that the kernel gives it: 3 for `sda3`.
    pub number: u32,
    /// Start in bytes from the start of the disk.
    pub start_bytes: u64,
    /// Length in bytes.
    pub len_bytes: u64,
    /// Type; in a table always [`PartType::Mbr`] or [`PartType::Gpt`], never a name.
    pub kind: PartType,
    /// GPT partition name; `None` when empty or on MBR.
    pub name: Option<String>,
    /// GPT attribute bits; 0 on MBR.
    pub attrs: u64,
    /// GPT unique partition GUID; `None` on MBR.
    pub uuid: Option<Uuid>,
    /// MBR active flag, or GPT's "legacy BIOS bootable" attribute.
    pub bootable: bool,
    /// True if it lies inside the extended partition (MBR only).
    pub logical: bool,
}

impl Partition {
    /// Makes a partition with nothing but a number, a place in bytes and a type.
    pub fn new(number: u32, start_bytes: u64, len_bytes: u64, kind: PartType) -> Self {
        Self {
            number,
            start_bytes,
            len_bytes,
            kind,
            name: None,
            attrs: 0,
            uuid: None,
            bootable: false,
            logical: false,
        }
    }

    /// Returns the first byte behind the partition; saturates for an impossible table from elsewhere.
    pub fn end_bytes(&self) -> u64 {
        self.start_bytes.saturating_add(self.len_bytes)
    }
}

impl PartitionTable {
    /// Returns the partition with this number.
    pub fn find(&self, number: u32) -> Option<&Partition> {
        self.partitions.iter().find(|part| part.number == number)
    }

    /// Returns the partition's PARTUUID as the kernel and blkid have it: its GUID, or on an MBR the disk
    /// signature and the number in hexadecimal.
    pub fn partuuid(&self, part: &Partition) -> Option<String> {
        match self.disk_id {
            DiskId::Mbr(id) => Some(format!("{id:08x}-{:02x}", part.number)),
            DiskId::Gpt(_) => part.uuid.map(|uuid| uuid.to_string()),
        }
    }

    /// Returns the extended partition of an MBR.
    pub(crate) fn extended(&self) -> Option<&Partition> {
        self.partitions
            .iter()
            .find(|part| self.kind == TableKind::Mbr && part.kind.is_extended())
    }

    /// Checks that the table contradicts neither itself nor its disk, and can be written.
    ///
    /// # Errors
    /// The first flaw in words, naming the partition.
    pub(crate) fn check(&self) -> Result<(), String> {
        flaws::check(self)
    }

    /// Returns the bytes of the table, with their places.
    ///
    /// # Errors
    /// The first flaw in words, as from [`PartitionTable::check`].
    pub(crate) fn encode(&self) -> Result<Encoded, String> {
        self.check()?;
        match self.kind {
            TableKind::Mbr => mbr::encode(self),
            TableKind::Gpt => gpt::encode(self),
        }
    }
}

/// A partition table in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// The end of sector 0, from the disk signature at byte 440 to the 0x55AA at byte 510.
    pub(crate) head: [u8; 72],
    /// Everything else, whole sectors each, in the order of writing.
    pub(crate) rest: Vec<Chunk>,
}

/// Bytes for one place on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Byte offset from the start of the disk, a multiple of the sector size.
    pub(crate) offset: u64,
    /// Content, whole sectors.
    pub(crate) bytes: Vec<u8>,
}

impl fmt::Display for TableKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mbr => "mbr",
            Self::Gpt => "gpt",
        })
    }
}

/// A word that is no kind of table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a kind of partition table: write mbr or gpt")]
pub struct UnknownTable(pub String);

impl FromStr for TableKind {
    type Err = UnknownTable;

    fn from_str(word: &str) -> Result<Self, UnknownTable> {
        match word {
            "mbr" => Ok(Self::Mbr),
            "gpt" => Ok(Self::Gpt),
            _ => Err(UnknownTable(word.to_owned())),
        }
    }
}

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mbr(id) => write!(f, "{id:#010x}"),
            Self::Gpt(guid) => write!(f, "{guid}"),
        }
    }
}
