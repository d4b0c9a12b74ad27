//! Errors of reading and writing archives.

use std::io;

/// Reason why an archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CpioError {
    /// The bytes cannot be read or written, or they end too early.
    #[error("cpio archive at byte {offset}: {source}")]
    Io {
        /// Offset in the archive, in bytes.
        offset: u64,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The bytes are no cpio archive, or a damaged one.
    #[error("cpio archive at byte {offset}: {what}")]
    Damaged {
        /// Offset in the archive, in bytes.
        offset: u64,
        /// The fault.
        what: String,
    },
    /// The archive exceeds a limit of the reader.
    #[error("cpio archive at byte {offset}: more than {limit} {what}")]
    TooMuch {
        /// Offset in the archive, in bytes.
        offset: u64,
        /// Value of the limit.
        limit: u64,
        /// Unit of the limit: `entries` or `bytes of data`.
        what: &'static str,
    },
    /// The format, or the kernel, does not support the entry.
    #[error("cannot put {name:?} into a cpio archive: {what}")]
    Entry {
        /// Name of the entry.
        name: String,
        /// The fault.
        what: &'static str,
    },
}
