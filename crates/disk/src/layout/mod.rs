//! From a desc file, or the golden drive's own table, to a plan of one disk, and the plan onto it.
//!
//! [`plan`] is pure: it looks at no disk and writes nothing. [`PartitionPlan`] is the only thing in
//! KA that writes a partition table.

mod error;
mod plan;

use serde::{Deserialize, Serialize};

pub use error::LayoutError;
pub use plan::{PartitionPlan, plan};

use crate::desc::Desc;
use crate::table::PartitionTable;

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
