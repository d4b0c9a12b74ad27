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
    #[error("{0}")]
    AsIs(String),
    /// Reading or writing the disk failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// What stands on the disk after writing is not what was planned.
    #[error("the partition table read back differs from the plan: {0}")]
    NotAsPlanned(String),
    /// The disk's table could not be read back.
    #[error(transparent)]
    Table(#[from] TableError),
}
