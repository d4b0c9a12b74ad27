//! Errors of a layout on a disk.

use std::io;

use thiserror::Error;

use crate::desc::DescError;
use crate::table::TableError;

/// A layout that is impossible, or a table that could not be written.
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
        /// The contradiction, with the partition.
        flaw: String,
        /// The sector sizes if they differ, else empty.
        sectors: String,
    },
    /// A plan that came from elsewhere contradicts itself.
    #[error("the plan is impossible: {0}")]
    Impossible(String),
    /// Reading or writing the disk failed.
    #[error("{doing}: {source}")]
    Io {
        /// The step that failed, for the message.
        doing: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// The disk is not the one that the plan was made for.
    #[error("the disk has {found} bytes and the plan is for {planned}: plan again")]
    OtherDisk {
        /// Size of the disk in bytes.
        found: u64,
        /// Size in the plan, in bytes.
        planned: u64,
    },
    /// The table on the disk after writing differs from the plan.
    #[error("the partition table read back differs from the plan: {0}")]
    NotAsPlanned(String),
    /// The disk's table could not be read back.
    #[error(transparent)]
    Table(#[from] TableError),
}
