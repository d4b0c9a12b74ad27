//! From a desc file, or the golden drive's own table, to a plan of one disk, and the plan onto it.
//!
//! [`plan()`] is pure: it looks at no disk and writes nothing. [`PartitionPlan`] is the only thing in
//! KA that writes a partition table. Every planned start and, but for copied tables, every size is a
//! whole number of MiB (issue "Clone a golden node", §3).

mod as_is;
mod error;
mod from_desc;
mod plan;
mod show;
#[cfg(test)]
mod tests;
mod write;
#[cfg(test)]
mod write_tests;

use serde::{Deserialize, Serialize};

pub use error::LayoutError;
pub use plan::{PartitionPlan, minimum_bytes, plan};

use crate::desc::{Desc, MIB};
use crate::table::{self, PartitionTable, TableKind};

/// Where the partitions of a clone come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A desc file (`-p DRIVE DESC`).
    Desc(Desc),
    /// The golden drive's own table, copied as it is.
    AsIs(PartitionTable),
}

/// The disk that a plan is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    /// Size in bytes.
    pub disk_bytes: u64,
    /// Logical sector size in bytes: 512 or 4096 on every disk that is sold.
    pub sector_size: u32,
}

impl Source {
    /// The kind of table this leads to on a disk of `disk_bytes`, where the golden drive has a
    /// `golden` one.
    pub fn table_for(&self, golden: TableKind, disk_bytes: u64) -> TableKind {
        match self {
            Self::Desc(desc) => desc.table_for(golden, disk_bytes),
            Self::AsIs(table) => table.kind,
        }
    }
}

/// The MiB behind the last one that a partition may use.
pub(crate) fn usable_end_mib(kind: TableKind, disk_bytes: u64, sector_size: u32) -> u64 {
    let end_bytes = match kind {
        TableKind::Mbr => disk_bytes,
        TableKind::Gpt => table::usable_end_bytes(disk_bytes, sector_size, crate::desc::MAX_PARTITIONS),
    };
    end_bytes / MIB
}
