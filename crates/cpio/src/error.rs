//! What can be wrong with an archive.

use std::io;

/// Why an archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CpioError {
    /// Reading or writing the bytes themselves failed, or they end too early.
    #[error("cpio archive at byte {offset}: {source}")]
    Io {
        /// Where in the archive.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes are no cpio archive, or a damaged one.
    #[error("cpio archive at byte {offset}: {what}")]
    Damaged {
        /// Where in the archive.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// More than the reader was told to accept.
    #[error("cpio archive at byte {offset}: more than {limit} {what}")]
    TooMuch {
        /// Where in the archive.
        offset: u64,
        /// The bound.
        limit: u64,
        /// Of what.
        what: &'static str,
    },
    /// An entry that the format, or the kernel, cannot take.
    #[error("cannot put {name:?} into a cpio archive: {what}")]
    Entry {
        /// Its name.
        name: String,
        /// Why not.
        what: &'static str,
    },
}
