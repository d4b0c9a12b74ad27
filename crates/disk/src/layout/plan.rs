//! The plan of one disk: `--dry-run` prints it, and a run writes it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Geometry, LayoutError, Source, as_is, from_desc};
use crate::desc::MIB;
use crate::table::{self, Partition, PartitionTable, TableKind};

/// The largest disk that [`minimum_bytes`] looks at, in MiB: larger than every disk and file system.
const MAX_DISK_MIB: u64 = 1 << 40;

/// The partition table that one disk is going to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionPlan {
    /// The table, complete with ids.
    pub table: PartitionTable,
}

/// Plans `source` on a disk of `geometry`. Pure: nothing is read or written.
///
/// `golden` is the kind of the golden drive's table, the default if the desc file does not say. With
/// `keep_ids` a copied table keeps its disk and partition ids; `fresh` makes all other ids; outside tests it
/// is `&mut uuid::Uuid::new_v4`.
///
/// # Errors
/// [`LayoutError::Desc`] or [`LayoutError::AsIs`], with the line or partition and the remedy.
pub fn plan(
    source: &Source,
    geometry: &Geometry,
    golden: TableKind,
    keep_ids: bool,
    fresh: &mut dyn FnMut() -> Uuid,
) -> Result<PartitionPlan, LayoutError> {
    if !table::is_sector_size(geometry.sector_size) {
        return Err(LayoutError::Impossible(format!(
            "a disk with {}-byte sectors",
            geometry.sector_size
        )));
    }
    let table = match source {
        Source::Desc(desc) => {
            from_desc::plan(desc, geometry, desc.table_for(golden, geometry.disk_bytes), fresh)?
        }
        Source::AsIs(table) => as_is::plan(table, geometry, keep_ids, fresh)?,
    };
    // Everything that could prevent the writing of the table has to show now, not on the disk.
    table.encode().map_err(LayoutError::Impossible)?;
    Ok(PartitionPlan { table })
}

/// Returns the size in bytes of the smallest disk, in whole MiB, that `source` fits on.
///
/// # Errors
/// The fault of a desc file on a `golden` table, otherwise the error of the largest disk. A disk over 2 TiB,
/// which gets another kind of table, might do all the same.
pub fn minimum_bytes(source: &Source, sector_size: u32, golden: TableKind) -> Result<u64, LayoutError> {
    if let Source::Desc(desc) = source {
        desc.check_for(desc.table.unwrap_or(golden))?;
    }
    let mut next_id = 0;
    let mut fits = |mib: u64| {
        let mut fresh = || {
            next_id += 1;
            Uuid::from_u128(next_id)
        };
        let geometry = Geometry {
            disk_bytes: mib * MIB,
            sector_size,
        };
        plan(source, &geometry, golden, true, &mut fresh)
    };
    // Doubling comes first: an MBR fits on small disks, but with `fill` not on those beyond its reach.
    let mut enough = 1;
    while let Err(error) = fits(enough) {
        enough *= 2;
        if enough > MAX_DISK_MIB {
            return Err(error);
        }
    }
    let mut too_small = enough / 2;
    while enough - too_small > 1 {
        let middle = too_small + (enough - too_small) / 2;
        if fits(middle).is_ok() {
            enough = middle
        } else {
            too_small = middle
        }
    }
    Ok(enough * MIB)
}

impl PartitionPlan {
    /// Returns the partitions in the order of their numbers.
    pub fn partitions(&self) -> &[Partition] {
        &self.table.partitions
    }

    /// Returns the partition with this number.
    pub fn find(&self, number: u32) -> Option<&Partition> {
        self.table.find(number)
    }
}
