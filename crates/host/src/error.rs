//! The error of every system call on a named object.

use std::io;

/// A system call or a device access that failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub struct HostError {
    /// Action, as gerund and object: `mounting /dev/sda1 on /mnt/disk`.
    pub doing: String,
    /// The kernel's error.
    #[source]
    pub source: io::Error,
}

impl HostError {
    /// Wraps the kernel's error; `doing` is the action, as gerund and object.
    pub fn new(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self {
            doing: doing.into(),
            source: source.into(),
        }
    }

    /// Returns the error number, when the kernel gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}
