//! Owner, mode, attributes, times and flags, in the order in which the kernel does not undo them: changing the owner
//! clears set-id bits and capabilities, writing clears capabilities, changing attributes changes no time that we
//! set, and an immutable file takes nothing more.

use std::os::fd::AsFd;

use ka_host::inode_flags;
use rustix::fd::BorrowedFd;
use rustix::fs::{self, AtFlags, Gid, IFlags, Mode, Timespec, Timestamps, Uid};

use super::created::Created;
use super::entry::Entry;
use super::shared::Halt;
use super::xattrs::{self, On};
use crate::meta::{Meta, Time};
use crate::warning::WarningKind;

/// Flags that must be there before the first byte: btrfs refuses `nocow` later, and compresses as it writes.
const BEFORE_CONTENT: u32 = IFlags::NOCOW.bits() | FS_COMPR | FS_NOCOMP;
/// A directory can only become case-insensitive while it is empty.
const WHILE_EMPTY: u32 = 0x4000_0000;
const FS_COMPR: u32 = 4;
const FS_NOCOMP: u32 = 0x400;
/// After these nothing can be changed any more.
pub(super) const SEALING: u32 = IFlags::IMMUTABLE.bits() | IFlags::APPEND.bits();

/// Everything about an open file, except flags that had to come before its content.
pub(super) fn to_file(
    entry: Entry<'_>,
    fd: BorrowedFd<'_>,
    meta: &Meta<'_>,
    created: Created,
) -> Result<(), Halt> {
    owner_and_mode(entry, fd, meta, created)?;
    xattrs::set(entry, On::Open(fd), meta)?;
    times(entry, fd, meta)?;
    flags(entry, fd, meta.flags & !BEFORE_CONTENT);
    project(entry, fd, meta);
    check_held(entry, fs::fstat(fd), meta);
    Ok(())
}

/// Everything about a directory whose entries are done.
pub(super) fn to_directory(
    entry: Entry<'_>,
    fd: impl AsFd,
    meta: &Meta<'_>,
    created: Created,
) -> Result<(), Halt> {
    let fd = fd.as_fd();
    // Whoever made it (mkfs, a mount option) may have given it any owner.
    owner_and_mode(entry, fd, meta, created)?;
    xattrs::set(entry, On::Open(fd), meta)?;
    times(entry, fd, meta)?;
    project(entry, fd, meta);
    flags(entry, fd, meta.flags & !WHILE_EMPTY);
    check_held(entry, fs::fstat(fd), meta);
    Ok(())
}

/// Sets the flags that a new directory needs before anything is in it.
pub(super) fn flags_of_empty_directory(entry: Entry<'_>, fd: impl AsFd, meta: &Meta<'_>) {
    flags(entry, fd.as_fd(), meta.flags & WHILE_EMPTY);
}

/// Sets the flags that a new file needs before its content.
pub(super) fn flags_before_content(entry: Entry<'_>, fd: impl AsFd, meta: &Meta<'_>) {
    flags(entry, fd.as_fd(), meta.flags & BEFORE_CONTENT);
}

fn owner_and_mode(
    entry: Entry<'_>,
    fd: BorrowedFd<'_>,
    meta: &Meta<'_>,
    created: Created,
) -> Result<(), Halt> {
    if entry.file_system().is_poor {
        // Owner and mode come from the mount's options there, on the golden node as well as here.
        if (meta.uid, meta.gid) != (entry.shared.uid, entry.shared.gid) {
            entry.warn(WarningKind::Owner);
        }
        return Ok(());
    }
    if matches!(created, Created::Final(_)) {
        return Ok(());
    }
    if let Err(errno) = fs::fchown(fd, Some(uid(meta)), Some(gid(meta))) {
        entry.excuse(WarningKind::Owner, "changing the owner of", errno)?;
    }
    match fs::fchmod(fd, Mode::from_raw_mode(meta.permissions())) {
        Ok(()) => Ok(()),
        Err(errno) => entry.excuse(WarningKind::Mode, "changing the mode of", errno),
    }
}

fn times(entry: Entry<'_>, fd: BorrowedFd<'_>, meta: &Meta<'_>) -> Result<(), Halt> {
    match fs::futimens(fd, &timestamps(meta)) {
        Ok(()) => Ok(()),
        Err(errno) => entry.excuse(WarningKind::Times, "setting the times of", errno),
    }
}

/// Links, devices, fifos, sockets: by name, never followed.
pub(super) fn to_name(
    entry: Entry<'_>,
    parent: BorrowedFd<'_>,
    meta: &Meta<'_>,
    created: Created,
) -> Result<(), Halt> {
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    if !matches!(created, Created::Final(_)) {
        if let Err(errno) = fs::chownat(parent, entry.name, Some(uid(meta)), Some(gid(meta)), nofollow) {
            entry.excuse(WarningKind::Owner, "changing the owner of", errno)?;
        }
        // Links have no mode of their own; everything else here was just made by us and is no link.
        let mode = Mode::from_raw_mode(meta.permissions());
        if meta.mode & 0o170_000 != 0o120_000
            && let Err(errno) = fs::chmodat(parent, entry.name, mode, AtFlags::empty())
        {
            entry.excuse(WarningKind::Mode, "changing the mode of", errno)?;
        }
    }
    xattrs::set(entry, On::Name(parent, entry.name), meta)?;
    if let Err(errno) = fs::utimensat(parent, entry.name, &timestamps(meta), nofollow) {
        entry.excuse(WarningKind::Times, "setting the times of", errno)?;
    }
    check_held(entry, fs::statat(parent, entry.name, nofollow), meta);
    Ok(())
}

/// Some file systems take what they cannot hold and say nothing: times to the second only (reiserfs, ext with small
/// inodes). Where everything is to be read back that must be known; a time that is wrong by more is a warning.
fn check_held(entry: Entry<'_>, found: rustix::io::Result<fs::Stat>, meta: &Meta<'_>) {
    if entry.shared.keeper.is_none() || entry.file_system().is_poor {
        return;
    }
    let Ok(found) = found else {
        return entry.inexact();
    };
    let nanos = |nanos| u32::try_from(nanos).unwrap_or(0);
    let times = [
        (meta.mtime, found.st_mtime, nanos(found.st_mtime_nsec)),
        (meta.atime, found.st_atime, nanos(found.st_atime_nsec)),
    ];
    if times
        .iter()
        .any(|(time, seconds, nanos)| (time.seconds, time.nanos) != (*seconds, *nanos))
    {
        entry.inexact();
    }
    let is_off = |(time, seconds, _): &(Time, i64, u32)| time.seconds != *seconds;
    let is_link = meta.mode & 0o170_000 == 0o120_000;
    for (is_other, kind) in [
        (times.iter().any(is_off), WarningKind::Times),
        (
            (meta.uid, meta.gid) != (found.st_uid, found.st_gid),
            WarningKind::Owner,
        ),
        (meta.mode != found.st_mode && !is_link, WarningKind::Mode),
    ] {
        if is_other {
            entry.warn(kind);
        }
    }
}

/// Sets flags beside those that the file has. One that is refused does not cost the others.
fn flags(entry: Entry<'_>, fd: BorrowedFd<'_>, wanted: u32) {
    if wanted == 0 {
        return;
    }
    let has = fs::ioctl_getflags(fd).unwrap_or(IFlags::empty());
    let all = has | IFlags::from_bits_retain(wanted);
    if all == has || fs::ioctl_setflags(fd, all).is_ok() {
        return;
    }
    for (bit, name) in FLAG_NAMES.iter().filter(|(bit, _)| wanted & bit != 0) {
        let has = fs::ioctl_getflags(fd).unwrap_or(IFlags::empty());
        if fs::ioctl_setflags(fd, has | IFlags::from_bits_retain(*bit)).is_err() {
            entry.warn(WarningKind::Flag(name));
        }
    }
}

/// The sealing ones last: after them no other can be set.
const FLAG_NAMES: [(u32, &str); 17] = [
    (0x1, "s (secure deletion)"),
    (0x2, "u (undeletable)"),
    (FS_COMPR, "c (compress)"),
    (0x8, "S (synchronous)"),
    (0x40, "d (no dump)"),
    (0x80, "A (no atime)"),
    (FS_NOCOMP, "m (do not compress)"),
    (0x4000, "j (data journalling)"),
    (0x8000, "t (no tail merging)"),
    (0x1_0000, "D (synchronous directory)"),
    (0x2_0000, "T (top of hierarchy)"),
    (0x80_0000, "C (no copy on write)"),
    (0x200_0000, "x (direct access)"),
    (0x2000_0000, "P (project hierarchy)"),
    (WHILE_EMPTY, "F (casefold)"),
    (0x20, "a (append only)"),
    (0x10, "i (immutable)"),
];

fn project(entry: Entry<'_>, fd: BorrowedFd<'_>, meta: &Meta<'_>) {
    if meta.project != 0 && inode_flags::set_project_id(fd, meta.project).is_err() {
        entry.warn(WarningKind::Project);
    }
}

fn timestamps(meta: &Meta<'_>) -> Timestamps {
    let spec = |time: Time| Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanos.into(),
    };
    Timestamps {
        last_access: spec(meta.atime),
        last_modification: spec(meta.mtime),
    }
}

fn uid(meta: &Meta<'_>) -> Uid {
    Uid::from_raw(meta.uid)
}

fn gid(meta: &Meta<'_>) -> Gid {
    Gid::from_raw(meta.gid)
}
