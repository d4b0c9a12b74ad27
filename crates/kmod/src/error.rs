//! What can be wrong with a kernel's modules.

use std::io;
use std::path::PathBuf;

/// Why modules cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KmodError {
    /// A file or directory cannot be read.
    #[error("reading {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `modules.dep` or `modules.alias` is not there.
    #[error("{} is missing; `depmod RELEASE` on that system writes it", path.display())]
    NoIndex {
        /// The missing file.
        path: PathBuf,
    },
    /// A line of an index that means nothing.
    #[error("{}:{line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// A file larger than any kernel's.
    #[error("{}: larger than {limit} bytes", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The bound.
        limit: u64,
    },
    /// A module that cannot be decompressed, or is none.
    #[error("{}: {what}", path.display())]
    Module {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}
