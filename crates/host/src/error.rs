//! The error of everything here that is a system call on a named thing.

use std::io;

/// A system call or a device access that failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub struct HostError {
    /// Gerund and object: `mounting /dev/sda1 on /mnt/disk`.
    pub doing: String,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

impl HostError {
    /// Wraps what the kernel said about `doing` (gerund and object).
    pub fn new(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self {
            doing: doing.into(),
            source: source.into(),
        }
    }

    /// The error number, when the kernel gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}
