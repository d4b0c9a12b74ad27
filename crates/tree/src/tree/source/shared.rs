//! The state that the walk and all readers of a tree share.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::attrs::FlagReader;
use super::dir::Dir;
use super::links::Links;
use crate::error::SendError;
use crate::fd_budget::FdBudget;
use crate::problem::{ProblemKind, Problems};
use crate::progress::Progress;
use crate::sync::lock;
use crate::tree::Tally;

/// The state that the walk and all readers share.
pub(super) struct Shared<'a> {
    pub(super) stop: AtomicBool,
    pub(super) fds: Arc<FdBudget>,
    pub(super) links: Links,
    /// One for each source: they are different file systems.
    pub(super) flags: Vec<FlagReader>,
    /// Device and inode of the sources' roots: where one is met in another source, it is not walked a second
    /// time.
    pub(super) roots: HashSet<(u64, u64)>,
    pub(super) progress: &'a Progress,
    pub(super) problems: Mutex<Problems>,
    pub(super) tally: Mutex<Tally>,
    pub(super) big_files: AtomicU64,
    /// The reason for which a reader could not work at all.
    pub(super) failed: Mutex<Option<SendError>>,
}

impl Shared<'_> {
    /// Returns a number for a file whose content comes in extents.
    pub(super) fn next_big(&self) -> u64 {
        self.big_files.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes a problem with the entry `name` of `dir`; with an empty name, with `dir` itself.
    pub(super) fn problem(&self, dir: &Dir, name: &[u8], kind: ProblemKind) {
        let path = if name.is_empty() {
            dir.path()
        } else {
            dir.path_of(name)
        };
        lock(&self.problems).add(&path, kind);
    }
}
