//! Partition tables as they stand on a disk: MBR with its chain of extended boot records, and GPT.
//!
//! This module knows how a table looks in bytes, both ways. It does not decide where a partition
//! goes; that is [`crate::layout`]. Specification: UEFI 2.10 chapter 5 (GPT, protective MBR);
//! for MBR and EBR the description that `fdisk` and the kernel's `block/partitions/msdos.c` agree on.

mod error;
mod part_type;

use std::fs::File;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use error::TableError;
pub use part_type::{KnownType, PartType, UnknownType};

/// The two kinds of partition table that KA reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    /// The PC's master boot record, with at most four primary partitions and 32-bit sector numbers.
    Mbr,
    /// The GUID partition table of UEFI.
    Gpt,
}

/// What names the disk as a whole.
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
    /// Which format the table has.
    pub kind: TableKind,
    /// The disk signature or GUID.
    pub disk_id: DiskId,
    /// Logical sector size in bytes that the table counts in.
    pub sector_size: u32,
    /// Size of the disk in bytes.
    pub disk_bytes: u64,
    /// The partitions in the order of their numbers.
    pub partitions: Vec<Partition>,
}

/// One partition of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// The number the kernel gives it: 3 for `sda3`.
    pub number: u32,
    /// Where it starts, in bytes from the start of the disk.
    pub start_bytes: u64,
    /// How long it is, in bytes.
    pub len_bytes: u64,
    /// Its type; in a table always [`PartType::Mbr`] or [`PartType::Gpt`], never a name.
    pub kind: PartType,
    /// GPT partition name; `None` when empty or on MBR.
    pub name: Option<String>,
    /// GPT attribute bits; 0 on MBR.
    pub attrs: u64,
    /// GPT unique partition GUID; `None` on MBR.
    pub uuid: Option<Uuid>,
    /// MBR active flag, or GPT's "legacy BIOS bootable" attribute.
    pub bootable: bool,
    /// Whether it lies inside the extended partition (MBR only).
    pub logical: bool,
}

/// Reads the partition table of a disk or image; `None` where there is none.
///
/// A GPT whose primary header is damaged is read from its backup.
///
/// # Errors
/// [`TableError`] where there is a table that cannot be trusted, or reading fails.
pub fn read(disk: &File, sector_size: u32) -> Result<Option<PartitionTable>, TableError> {
    let _ = (disk, sector_size);
    Err(TableError::Damaged("reading is not written yet".to_owned()))
}
