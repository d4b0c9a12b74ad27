//! Why a layout is not possible on a disk.

use std::io;

use thiserror::Error;

use crate::desc::DescError;
use crate::table::TableError;

/// A layout that cannot be had, or a table that could not be written.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// A line of the desc file is impossible on this kind of table or disk.
    #[error(transparent)]
    Desc(#[from] DescError),
    /// The golden table cannot be copied as it is onto this disk.
    #[error(
        "the golden partition table cannot be copied as it is: {flaw}{sectors}; write a desc file (ka-desc makes \
         one) and give it with -p"
    )]
    AsIs {
        /// What is impossible, naming the partition.
        flaw: String,
        /// The sector sizes, where they differ; otherwise empty.
        sectors: String,
    },
    /// A plan that came from elsewhere contradicts itself.
    #[error("the plan is impossible: {0}")]
    Impossible(String),
    /// Reading or writing the disk failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The disk is not the one the plan was made for.
    #[error("the disk has {found} bytes and the plan is for {planned}: plan again")]
    OtherDisk {
        /// Size of the disk at hand.
        found: u64,
        /// Size in the plan.
        planned: u64,
    },
    /// What stands on the disk after writing is not what was planned.
    #[error("the partition table read back differs from the plan: {0}")]
    NotAsPlanned(String),
    /// The disk's table could not be read back.
    #[error(transparent)]
    Table(#[from] TableError),
}
