//! Errors of reading a partition table.

use std::io;

use thiserror::Error;

/// A partition table that cannot be read or trusted.
#[derive(Debug, Error)]
pub enum TableError {
    /// The disk could not be read.
    #[error("reading the partition table: {0}")]
    Io(#[from] io::Error),
    /// There is a table, but it contradicts itself or the disk.
    #[error("damaged partition table: {0}")]
    Damaged(String),
}
