//! The files that machines may fetch.

use std::path::PathBuf;

/// A file that machines may fetch, under a name of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Name that machines ask for: `vmlinuz`.
    pub name: String,
    /// Source of its bytes.
    pub source: Source,
}

/// Source of the bytes of a served file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, opened anew for each transfer.
    Path(PathBuf),
    /// Bytes in memory.
    Bytes(Vec<u8>),
}
