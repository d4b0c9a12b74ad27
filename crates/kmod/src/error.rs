//! Errors of reading a kernel's modules.

use std::io;
use std::path::PathBuf;

/// Reason why modules cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KmodError {
    /// A file or directory cannot be read.
    #[error("reading {}: {source}", path.display())]
    Read {
        /// Path of the file or directory.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// `modules.dep` or `modules.alias` does not exist.
    #[error("{} is missing; `depmod RELEASE` on that system writes it", path.display())]
    NoIndex {
        /// Path of the missing file.
        path: PathBuf,
    },
    /// A line of an index file is invalid.
    #[error("{}:{line}: {what}", path.display())]
    Line {
        /// Path of the file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// The fault.
        what: String,
    },
    /// A file is larger than that of any kernel.
    #[error("{}: larger than {limit} bytes", path.display())]
    TooLarge {
        /// Path of the file.
        path: PathBuf,
        /// Limit, in bytes.
        limit: u64,
    },
    /// A file cannot be decompressed, or is no module.
    #[error("{}: {what}", path.display())]
    Module {
        /// Path of the file.
        path: PathBuf,
        /// The fault.
        what: String,
    },
}
