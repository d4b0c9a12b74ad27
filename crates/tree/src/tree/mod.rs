//! Directory trees: [`send`] reads them into blocks, [`restore`] makes them again.

#[cfg(test)]
mod hostile;
mod ledger;
mod read_back;
mod source;
mod target;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub use self::ledger::Ledger;
pub use self::read_back::{Differences, MAX_NAMED_DIFFERENCES, ReadBack, read_back};
use crate::compress::Compress;
use crate::digest::{DigestSum, TreeDigest};
use crate::error::{RestoreError, SendError};
use crate::problem::Problems;
use crate::progress::Progress;
use crate::warning::Warning;

/// Directories deeper than this do not travel: their number bounds the memory of both sides. Linux itself
/// knows no bound, `PATH_MAX` allows about 2000.
const MAX_DEPTH: usize = 16 * 1024;
/// Files whose other names were not met yet. About 200 bytes each, on both sides; what exceeds it travels as
/// separate files.
const MAX_OPEN_LINKS: usize = 1 << 20;

/// One mount point of the golden node: its own file system only, nothing mounted beneath it.
#[derive(Debug, Clone)]
pub struct TreeSource {
    /// Says which [`TreeTarget`] takes it.
    pub mount_id: u32,
    /// The directory where it is mounted on the golden node.
    pub root: PathBuf,
}

/// One mount point of the clone.
#[derive(Debug, Clone)]
pub struct TreeTarget {
    /// The [`TreeSource::mount_id`] that it takes.
    pub mount_id: u32,
    /// An existing directory; its mode, owner, times and attributes become those of the source's root.
    pub root: PathBuf,
}

/// The options of [`send`].
#[derive(Debug, Clone)]
pub struct SendOptions {
    /// Root of the golden tree (`/` or `--root`): contents of its `proc`, `sys`, `dev` and `run` never
    /// travel.
    pub golden_root: PathBuf,
    /// Directories that travel empty (`-x`), as absolute paths on the golden node.
    pub excluded: Vec<PathBuf>,
    /// Paths that do not travel at all (swap files, our own state and spool), absolute on the golden node.
    pub skip: Vec<PathBuf>,
    /// The policy of compression.
    pub compress: Compress,
    /// Reader threads; 0 means as many as there are processors, between 2 and 8.
    pub threads: usize,
    /// Raw bytes a block aims for; between 16 KiB and 1 MiB less its header.
    pub block_bytes: usize,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self {
            golden_root: PathBuf::from("/"),
            excluded: Vec::new(),
            skip: Vec::new(),
            compress: Compress::Auto,
            threads: 0,
            block_bytes: 256 * 1024,
        }
    }
}

/// The options of [`restore`].
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// Writer threads; 0 means as many as there are processors, between 2 and 8.
    pub threads: usize,
    /// Keep what [`read_back()`] compares with: 24 bytes for each entry.
    pub keep_ledger: bool,
}

/// The totals of one direction; equal on both sides of a good copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TreeTotals {
    /// Entries that are no directories; each name of a hard-linked file counts.
    pub files: u64,
    /// Directories, the roots included.
    pub directories: u64,
    /// Bytes of file content; holes are not counted.
    pub bytes: u64,
    /// Digest over names, metadata and content of all entries.
    pub digest: TreeDigest,
}

/// The result of [`send`].
#[derive(Debug, Clone)]
pub struct SendSummary {
    /// The totals of the entries that were sent.
    pub totals: TreeTotals,
    /// The entries that did not travel as they were.
    pub problems: Problems,
}

/// The result of [`restore`].
#[derive(Debug, Clone)]
pub struct RestoreSummary {
    /// The totals of the entries that were written; those that the target cannot hold count too, and are
    /// named in `warnings`.
    pub totals: TreeTotals,
    /// The things that the target cannot hold.
    pub warnings: Vec<Warning>,
    /// The record for [`read_back()`]: on request, and for not more than 2²⁴ entries.
    pub ledger: Option<Arc<Ledger>>,
}

/// Reads `sources` and passes the blocks to `emit` in order, on the calling thread.
///
/// # Errors
/// A root cannot be opened, or `emit` failed. Entries that cannot be read are in [`SendSummary::problems`].
pub fn send(
    sources: &[TreeSource],
    options: &SendOptions,
    emit: impl FnMut(Vec<u8>) -> io::Result<()>,
    progress: &Progress,
) -> Result<SendSummary, SendError> {
    source::send(sources, options, emit, progress)
}

/// Takes the blocks that `next` returns, in order until `None`, and makes their trees beneath `targets`.
///
/// Nothing outside the targets is touched, whatever the blocks say. The caller mounts every target before,
/// the deeper ones within the others.
///
/// # Errors
/// The first one stops everything: a full target, an I/O error, a damaged stream, a digest that differs.
pub fn restore<B: AsRef<[u8]> + Send + Sync + 'static>(
    targets: &[TreeTarget],
    options: &RestoreOptions,
    next: impl FnMut() -> io::Result<Option<B>>,
    progress: &Progress,
) -> Result<RestoreSummary, RestoreError> {
    target::restore(targets, options, next, progress)
}

/// Running totals of one thread or of a whole stream.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    files: u64,
    directories: u64,
    bytes: u64,
    sum: DigestSum,
}

impl Tally {
    fn add_file(&mut self, entry: &[u8; 32], bytes: u64) {
        self.files += 1;
        self.add_part(entry, bytes);
    }

    fn add_directory(&mut self, entry: &[u8; 32]) {
        self.directories += 1;
        self.sum.add(entry);
    }

    /// Something of a file that was counted already.
    fn add_part(&mut self, part: &[u8; 32], bytes: u64) {
        self.bytes += bytes;
        self.sum.add(part);
    }

    fn merge(&mut self, other: &Self) {
        self.files += other.files;
        self.directories += other.directories;
        self.bytes += other.bytes;
        self.sum.merge(&other.sum);
    }

    fn totals(&self) -> TreeTotals {
        let Self {
            files,
            directories,
            bytes,
            sum,
        } = self;
        TreeTotals {
            files: *files,
            directories: *directories,
            bytes: *bytes,
            digest: sum.finish(),
        }
    }
}
