//! Opening and looking at entries of the golden tree: through no link, mounting nothing, leaving no trace.

use std::collections::HashSet;
use std::ffi::CStr;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use crate::fd_budget::CountedFd;
use crate::problem::ProblemKind;

/// The flags with which every directory and file of the golden tree is opened: never through a link, leaving
/// no trace.
pub(super) const OPEN_FLAGS: OFlags = OFlags::NOFOLLOW
    .union(OFlags::NOATIME)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY);

/// For looking at a name: not through a link, mounting nothing, asking no server.
const STAT_FLAGS: AtFlags = AtFlags::SYMLINK_NOFOLLOW
    .union(AtFlags::NO_AUTOMOUNT)
    .union(AtFlags::STATX_DONT_SYNC);

/// A directory that was looked at.
pub(super) enum Sighting {
    /// The open directory.
    Open(OwnedFd),
    /// Something is mounted there, or another source brings it. A mount point is not opened, for that could
    /// mount more.
    Elsewhere(Box<Statx>),
}

/// Opens a subdirectory, unless it is a mount point or the root of a source (`roots`, by device and inode): a
/// btrfs subvolume that is mounted elsewhere, a directory of a plain tree that becomes a file system of its
/// own.
pub(super) fn open_directory(
    parent: &CountedFd,
    name: &CStr,
    roots: &HashSet<(u64, u64)>,
) -> Result<Sighting, Errno> {
    let stat = fs::statx(parent, name, STAT_FLAGS, StatxFlags::BASIC_STATS)?;
    let identity = (fs::makedev(stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino);
    if is_mount_root(&stat) || roots.contains(&identity) {
        return Ok(Sighting::Elsewhere(Box::new(stat)));
    }
    let flags = OPEN_FLAGS | OFlags::RDONLY | OFlags::DIRECTORY;
    let opened = match fs::openat(parent, name, flags, Mode::empty()) {
        // O_NOATIME is for owners and CAP_FOWNER only.
        Err(Errno::PERM) => fs::openat(parent, name, flags.difference(OFlags::NOATIME), Mode::empty()),
        opened => opened,
    };
    opened.map(Sighting::Open)
}

/// Opens a file that the listing called regular.
pub(super) fn open_file(dir: &CountedFd, name: &CStr) -> Result<rustix::fd::OwnedFd, Errno> {
    match fs::openat(dir, name, OPEN_FLAGS | OFlags::RDONLY, Mode::empty()) {
        // O_NOATIME is for owners and CAP_FOWNER only.
        Err(Errno::PERM) => fs::openat(dir, name, OPEN_FLAGS.difference(OFlags::NOATIME), Mode::empty()),
        opened => opened,
    }
}

/// Overlay file systems give files other device numbers too: only the mount itself tells.
pub(super) fn is_mounted_over(dir: &CountedFd, name: &CStr) -> bool {
    fs::statx(dir, name, STAT_FLAGS, StatxFlags::BASIC_STATS).is_ok_and(|stat| is_mount_root(&stat))
}

/// True if another file system (or the same one a second time) begins here: Linux 5.8.
fn is_mount_root(stat: &Statx) -> bool {
    stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
}

/// Returns the report of a failure to look at an entry.
pub(super) fn kind_of(errno: Errno) -> ProblemKind {
    match errno {
        Errno::NOENT | Errno::STALE | Errno::NOTDIR => ProblemKind::Vanished,
        errno => ProblemKind::Unreadable(std::io::Error::from(errno).to_string()),
    }
}

/// Returns the type from the listing; some file systems do not tell (`DT_UNKNOWN`).
pub(super) fn known_type(dir: &CountedFd, name: &CStr, listed: FileType) -> FileType {
    if listed != FileType::Unknown {
        return listed;
    }
    fs::statx(dir, name, STAT_FLAGS, StatxFlags::TYPE).map_or(FileType::Unknown, |stat| {
        FileType::from_raw_mode(stat.stx_mode.into())
    })
}

/// Device and inode; a directory that cannot be asked is like no other.
pub(super) fn identity(dir: impl AsFd) -> (u64, u64) {
    fs::fstat(dir).map_or((0, 0), |stat| (stat.st_dev, stat.st_ino))
}
