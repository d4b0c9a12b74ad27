//! Whole partitions, byte for byte: runs of zeros do not travel, the target gets zeros there.

use std::fs::File;
use std::io;

use crate::compress::Compress;
use crate::digest::TreeDigest;
use crate::error::{RestoreError, SendError};
use crate::progress::Progress;

/// How to read a partition.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawSendOptions {
    /// When to compress.
    pub compress: Compress,
    /// Reader threads; 0 means 2.
    pub threads: usize,
}

/// How to write a partition.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawRestoreOptions {
    /// Writer threads; 0 means 2.
    pub threads: usize,
    /// Take a target that is larger than the golden partition; its rest is zeroed. A smaller one is always refused.
    pub allow_larger: bool,
}

/// What was read or written; equal on both sides of a good copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RawSummary {
    /// Bytes of the golden partition.
    pub bytes: u64,
    /// Of these, bytes that travelled because they were not zero.
    pub data_bytes: u64,
    /// Digest over the partition's size and all data.
    pub digest: TreeDigest,
}

/// Reads the first `bytes` bytes of `source` (an open partition or file) and gives `emit` the blocks in order.
///
/// # Errors
/// When a byte cannot be read or `emit` fails.
pub fn send(
    source: &File,
    bytes: u64,
    options: &RawSendOptions,
    emit: impl FnMut(Vec<u8>) -> io::Result<()>,
    progress: &Progress,
) -> Result<RawSummary, SendError> {
    let _ = (source, bytes, options, emit, progress);
    Err(SendError::Threads("not there yet".into()))
}

/// Takes the blocks that `next` returns and writes them to `target` (an open partition or file of `bytes` bytes).
/// The caller flushes the target.
///
/// # Errors
/// When the sizes differ, writing fails, the stream is damaged or its digest differs.
pub fn restore<B: AsRef<[u8]> + Send + Sync + 'static>(
    target: &File,
    bytes: u64,
    options: &RawRestoreOptions,
    next: impl FnMut() -> io::Result<Option<B>>,
    progress: &Progress,
) -> Result<RawSummary, RestoreError> {
    let _ = (target, bytes, options, next, progress);
    Err(RestoreError::Truncated)
}
