//! The work that the walk gives to the readers.

use std::sync::Arc;

use rustix::fs::Statx;

use super::dir::{Dir, Names};
use crate::fd_budget::CountedFd;

/// An operation of a reader, in the order of the stream.
pub(super) enum Op {
    /// Describe a directory and make it the current one.
    Enter {
        dir: Arc<Dir>,
        place: Place,
        found: DirAccess,
    },
    /// Read these entries of the current directory.
    Entries {
        dir: Arc<Dir>,
        fd: Arc<CountedFd>,
        names: Names,
    },
    /// The directory is complete.
    Leave { dir: Arc<Dir> },
}

/// The place of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Root { mount_id: u32 },
    Beneath,
}

/// The way to learn about a directory.
pub(super) enum DirAccess {
    /// It is open.
    Open(Arc<CountedFd>),
    /// It is a mount point or may not be opened: only this is known.
    Stat(Box<Statx>),
}

/// Consecutive operations for one reader.
pub(super) struct Job {
    /// Position in the stream.
    pub(super) number: u64,
    pub(super) ops: Vec<Op>,
}
