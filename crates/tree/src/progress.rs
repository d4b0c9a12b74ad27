//! Counters that a user interface reads while a stream is under way.

use std::sync::atomic::{AtomicU64, Ordering};

/// The files and bytes that have been read (sender) or written (restorer) so far. Shared by reference;
/// reading never blocks.
#[derive(Debug, Default)]
pub struct Progress {
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Progress {
    /// Counters at zero.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Entries done, directories not counted.
    pub fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// Returns the bytes of file content (or of the partition) done; holes are not counted.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, files: u64, bytes: u64) {
        self.files.fetch_add(files, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
