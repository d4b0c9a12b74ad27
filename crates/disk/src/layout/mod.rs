//! The plan of one disk, made from a desc file or the golden drive's own table, and its writing onto the
//! disk.
//!
//! [`plan()`] is pure: it looks at no disk and writes nothing. [`PartitionPlan`] is the only thing in KA that
//! writes a partition table. Every planned start and, except in copied tables, every size is a whole number
//! of MiB.

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
use uuid::Uuid;

pub use error::LayoutError;
pub use plan::{PartitionPlan, minimum_bytes, plan};

use crate::desc::Desc;
use crate::table::{PartitionTable, TableKind};

/// Source of a clone's partitions.
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
    /// Returns the kind of table that this leads to on a disk of `disk_bytes`, if the golden drive's is
    /// `golden`.
    pub fn table_for(&self, golden: TableKind, disk_bytes: u64) -> TableKind {
        match self {
            Self::Desc(desc) => desc.table_for(golden, disk_bytes),
            Self::AsIs(table) => table.kind,
        }
    }
}

/// Makes a disk signature: 32 bits, never 0, which would mean none.
fn fresh_mbr_id(fresh: &mut dyn FnMut() -> Uuid) -> u32 {
    let [a, b, c, d, ..] = *fresh().as_bytes();
    u32::from_le_bytes([a, b, c, d]).max(1)
}
