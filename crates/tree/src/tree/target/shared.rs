//! The state that all threads of a restore share, and the way to stop them all.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::root::{FileSystem, Place};
use crate::error::RestoreError;
use crate::fd_budget::FdBudget;
use crate::progress::Progress;
use crate::record::Malformed;
use crate::sync::lock;
use crate::tree::Tally;
use crate::tree::ledger::Keeper;
use crate::warning::Warnings;

/// The end of every thread after a failure, whose reason is in [`Shared`].
#[derive(Debug)]
pub(super) struct Halt;

/// The state that all threads of a restore share.
pub(super) struct Shared<'a> {
    pub(super) stop: AtomicBool,
    pub(super) error: Mutex<Option<RestoreError>>,
    pub(super) warnings: Warnings,
    pub(super) progress: &'a Progress,
    pub(super) tally: Mutex<Tally>,
    pub(super) fds: Arc<FdBudget>,
    pub(super) late_flags: Mutex<Vec<LateFlags>>,
    /// Bytes of directory entries kept until the directories are done.
    pub(super) kept_bytes: AtomicUsize,
    /// The record of what is written, when it will be read back.
    pub(super) keeper: Option<Keeper>,
    /// The targets' roots, by device and inode: one that is met as a directory of another is a mount point.
    pub(super) mount_points: HashSet<(u64, u64)>,
    /// The owner of the files that this process creates.
    pub(super) uid: u32,
    /// Their group.
    pub(super) gid: u32,
    /// Permission bits that creating a file does not give.
    pub(super) umask: u32,
}

/// Flags of a file after which no further name could be given to it: set when everything else is done.
#[derive(Debug)]
pub(super) struct LateFlags {
    /// The directory of the file.
    pub(super) place: Arc<Place>,
    pub(super) file_system: Arc<FileSystem>,
    pub(super) name: Box<[u8]>,
    /// The file's place in the ledger.
    pub(super) key: u64,
    /// The flags, as of ioctl_iflags(2).
    pub(super) flags: u32,
}

impl<'a> Shared<'a> {
    /// The state before the first block.
    pub(super) fn new(
        progress: &'a Progress,
        keeper: Option<Keeper>,
        mount_points: HashSet<(u64, u64)>,
    ) -> Self {
        Self {
            stop: AtomicBool::new(false),
            error: Mutex::default(),
            warnings: Warnings::default(),
            progress,
            tally: Mutex::default(),
            fds: FdBudget::from_limit(),
            late_flags: Mutex::default(),
            kept_bytes: AtomicUsize::new(0),
            keeper,
            mount_points,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            umask: umask().unwrap_or(0o777),
        }
    }

    /// True once a thread has failed.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Stops all threads; the first reason counts.
    pub(super) fn fail(&self, error: RestoreError) -> Halt {
        lock(&self.error).get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
        Halt
    }

    /// Stops all threads because the stream makes no sense.
    pub(super) fn damaged(&self, malformed: Malformed) -> Halt {
        self.fail(RestoreError::Stream(malformed.0.to_owned()))
    }

    /// Stops all threads because writing `path` failed. `doing` is a gerund, such as "creating".
    pub(super) fn write_failed(&self, doing: &'static str, path: &Path, source: io::Error) -> Halt {
        let path = path.to_path_buf();
        let is_full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        self.fail(if is_full {
            RestoreError::Full { path }
        } else {
            RestoreError::Write { doing, path, source }
        })
    }
}

/// This process's umask, read without changing it (proc(5), Linux 4.7).
fn umask() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(value.trim(), 8).ok()
}
