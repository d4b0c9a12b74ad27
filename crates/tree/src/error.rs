//! The two ways a stream ends badly.

use std::io;
use std::path::PathBuf;

use crate::digest::TreeDigest;

/// A failure to send a stream. Single entries that cannot be read are no failure, see [`crate::Problems`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// A source's root directory or partition cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The root of the source.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The partition cannot be read; a copy with a gap would be worthless, so the stream ends.
    #[error("reading {what} at byte {offset}: {source}")]
    Read {
        /// The file or directory that was being read.
        what: String,
        /// The place in it, in bytes from its start.
        offset: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// The consumer of the blocks ended the stream.
    #[error("handing a block over: {0}")]
    Emit(#[source] io::Error),
    /// A thread could not be started or died.
    #[error("running the readers: {0}")]
    Threads(String),
}

/// A failure to restore a stream. The entries written so far stay; the target is incomplete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// A target root cannot be opened.
    #[error("cannot open the target {}: {source}", path.display())]
    Open {
        /// The target root.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The target is full.
    #[error("no space or no inode left for {}: use a larger disk or a larger partition in the desc", path.display())]
    Full {
        /// The file or directory that was being written.
        path: PathBuf,
    },
    /// Writing failed otherwise.
    #[error("{doing} {}: {source}", path.display())]
    Write {
        /// The failed action, as a gerund (`creating`, `writing`).
        doing: &'static str,
        /// The file or directory that was being written, beneath the target root.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The blocks say something that no sender says; nothing of it was carried out.
    #[error("the stream is damaged: {0}")]
    Stream(String),
    /// The blocks ended before the stream's end record.
    #[error("the stream ended before its end; the copy is incomplete")]
    Truncated,
    /// Everything was written, yet it differs from the data that the sender read.
    #[error("the restored content ({restored}) is not what was sent ({sent})")]
    Digest {
        /// The digest in the stream's end record.
        sent: TreeDigest,
        /// The digest over the written data.
        restored: TreeDigest,
    },
    /// The stream holds a mount point that has no target here.
    #[error("the stream holds mount {0}, which has no target here")]
    UnknownMount(u32),
    /// The device is not as large as the partition in the stream.
    #[error(
        "the target holds {target} bytes, the partition in the stream {stream}: make them equal in the desc"
    )]
    SizeMismatch {
        /// Bytes of the target.
        target: u64,
        /// Bytes of the golden partition.
        stream: u64,
    },
    /// Receiving the next block failed.
    #[error("receiving a block: {0}")]
    Next(#[source] io::Error),
    /// A thread could not be started or died.
    #[error("running the writers: {0}")]
    Threads(String),
}
