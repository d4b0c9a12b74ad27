//! The plan of one disk: what `--dry-run` prints, and what is written.

use std::fs::File;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Geometry, LayoutError, Source};
use crate::table::{Partition, PartitionTable, TableKind};

/// The partition table that one disk is going to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionPlan {
    /// The table, complete with ids.
    pub table: PartitionTable,
}

/// Plans `source` on a disk of `geometry`. Pure: nothing is read or written.
///
/// `golden` is the kind of the golden drive's table, the default where the desc file does not say.
/// With `keep_ids` a copied table keeps its disk and partition ids; `fresh` gives all other ids
/// (`&mut uuid::Uuid::new_v4` outside tests).
///
/// # Errors
/// [`LayoutError::Desc`] or [`LayoutError::AsIs`], with the line or partition and the way out.
pub fn plan(
    source: &Source,
    geometry: &Geometry,
    golden: TableKind,
    keep_ids: bool,
    fresh: &mut dyn FnMut() -> Uuid,
) -> Result<PartitionPlan, LayoutError> {
    let _ = (source, geometry, golden, keep_ids, fresh);
    Err(LayoutError::AsIs("planning is not written yet".to_owned()))
}

impl PartitionPlan {
    /// The partitions in the order of their numbers.
    pub fn partitions(&self) -> &[Partition] {
        &self.table.partitions
    }

    /// The partition with this number.
    pub fn find(&self, number: u32) -> Option<&Partition> {
        self.table.partitions.iter().find(|partition| partition.number == number)
    }

    /// Makes the disk unbootable and forgets what was on it: zeroes its first and last MiB, and the
    /// first and last MiB of each planned partition, where old file systems and RAID members have
    /// their signatures.
    ///
    /// # Errors
    /// [`LayoutError::Io`].
    pub fn wipe(&self, disk: &File) -> Result<(), LayoutError> {
        let _ = disk;
        Err(LayoutError::AsIs("wiping is not written yet".to_owned()))
    }

    /// Writes the table: everything else first, then, after a sync, sector 0, then a sync.
    ///
    /// Bytes 440 to 443 of `boot_code` are the golden disk's signature and are not written.
    ///
    /// # Errors
    /// [`LayoutError::Io`].
    pub fn write(&self, disk: &File, boot_code: Option<&[u8; 446]>) -> Result<(), LayoutError> {
        let _ = (disk, boot_code);
        Err(LayoutError::AsIs("writing is not written yet".to_owned()))
    }
}
