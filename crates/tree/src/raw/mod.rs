//! Whole partitions, byte for byte: runs of zeros do not travel, the target gets zeros there.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::File;
use std::io;

use crate::compress::Compress;
use crate::digest::{DigestSum, TreeDigest};
use crate::error::{RestoreError, SendError};
use crate::hashing::{Domain, hash, piece_hash};
use crate::progress::Progress;

/// The options of reading a partition.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawSendOptions {
    /// The policy of compression.
    pub compress: Compress,
    /// Reader threads; 0 means 2.
    pub threads: usize,
}

/// The options of writing a partition.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawRestoreOptions {
    /// Writer threads; 0 means 2.
    pub threads: usize,
    /// Take a target that is larger than the golden partition; its rest is zeroed. A smaller one is always
    /// refused.
    pub allow_larger: bool,
}

/// The totals of one direction; equal on both sides of a good copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RawSummary {
    /// Bytes of the golden partition.
    pub bytes: u64,
    /// Of these, bytes that travelled because they were not zero.
    pub data_bytes: u64,
    /// Digest over the partition's size and all data.
    pub digest: TreeDigest,
}

/// Reads the first `bytes` bytes of `source` (an open partition or file) and passes the blocks to `emit` in
/// order.
///
/// # Errors
/// A byte cannot be read, or `emit` failed.
pub fn send(
    source: &File,
    bytes: u64,
    options: &RawSendOptions,
    emit: impl FnMut(Vec<u8>) -> io::Result<()>,
    progress: &Progress,
) -> Result<RawSummary, SendError> {
    reader::send(source, bytes, options, emit, progress)
}

/// Takes the blocks that `next` returns and writes them to `target` (an open partition or file of `bytes`
/// bytes). The caller flushes the target.
///
/// # Errors
/// The sizes differ, writing failed, the stream is damaged, or its digest differs.
pub fn restore<B: AsRef<[u8]> + Send + Sync + 'static>(
    target: &File,
    bytes: u64,
    options: &RawRestoreOptions,
    next: impl FnMut() -> io::Result<Option<B>>,
    progress: &Progress,
) -> Result<RawSummary, RestoreError> {
    writer::restore(target, bytes, options, next, progress)
}

/// Threads of either side unless asked otherwise: one waits for the device while the other one hashes.
const THREADS: usize = 2;
/// Zeros are looked for in pieces of this many bytes; the largest logical sector size in use.
const PAGE_BYTES: usize = 4096;
/// The bytes that are read and written at a time: one block's worth.
const PIECE_BYTES: usize = 256 * 1024;

const fn thread_count(asked: usize) -> usize {
    match asked {
        0 => THREADS,
        1..=64 => asked,
        _ => 64,
    }
}

/// Counts and digest of one thread or of a whole stream.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    data_bytes: u64,
    sum: DigestSum,
}

impl Tally {
    /// One run of data.
    fn add(&mut self, offset: u64, data: &[u8]) {
        self.data_bytes += data.len() as u64;
        self.sum.add(&piece_hash(Domain::RawData, &[0; 32], offset, data));
    }

    fn merge(&mut self, other: &Self) {
        self.data_bytes += other.data_bytes;
        self.sum.merge(&other.sum);
    }

    fn summary(mut self, bytes: u64) -> RawSummary {
        self.sum
            .add(&hash(Domain::RawSize, &[0; 32], &[&bytes.to_le_bytes()]));
        RawSummary {
            bytes,
            data_bytes: self.data_bytes,
            digest: self.sum.finish(),
        }
    }
}
