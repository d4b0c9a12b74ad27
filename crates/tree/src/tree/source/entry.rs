//! An entry of the golden tree, and its record made from the kernel's data.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use ka_host::subvolume::{ROOT_INODE, is_read_only};
use rustix::fs::{Stat, Statx};

use super::dir::Dir;
use crate::meta::{Meta, Subvolume, Time};
use crate::pipeline::Output;

/// An entry of a directory that is being read, and the stream it goes to.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    /// The directory.
    pub(super) dir: &'a Arc<Dir>,
    /// The name in it.
    pub(super) name: &'a CStr,
    /// The blocks of the stream.
    pub(super) out: &'a Output,
}

/// Returns the record's part that stat(2) has.
pub(super) fn from_stat(stat: &Stat) -> Meta<'static> {
    Meta {
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        atime: time(stat.st_atime, stat.st_atime_nsec),
        ..Meta::default()
    }
}

/// Returns the record's part that statx(2) has.
pub(super) fn from_statx(stat: &Statx) -> Meta<'static> {
    Meta {
        mode: u32::from(stat.stx_mode),
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        mtime: Time {
            seconds: stat.stx_mtime.tv_sec,
            nanos: stat.stx_mtime.tv_nsec,
        },
        atime: Time {
            seconds: stat.stx_atime.tv_sec,
            nanos: stat.stx_atime.tv_nsec,
        },
        ..Meta::default()
    }
}

/// Tells if an open directory is a btrfs subvolume: its root has a fixed inode number, and only btrfs
/// answers.
pub(super) fn subvolume(dir: BorrowedFd<'_>, stat: &Stat) -> Subvolume {
    if stat.st_ino != ROOT_INODE {
        return Subvolume::No;
    }
    match is_read_only(dir) {
        Ok(false) => Subvolume::Writable,
        Ok(true) => Subvolume::ReadOnly,
        Err(_) => Subvolume::No,
    }
}

/// The kernel keeps nanoseconds below 10⁹.
fn time(seconds: i64, nanos: impl TryInto<u32>) -> Time {
    Time {
        seconds,
        nanos: nanos.try_into().unwrap_or(0),
    }
}

/// Returns true if both looks saw the same content: size and times. A write changes both times. A program
/// that restores the time of modification afterwards (`cp -p`, `tar`, `rsync -t`) changes the other one,
/// which no program can set. A store through a shared mapping changes them only when its page is clean; no
/// time shows that.
pub(super) const fn same_content(before: &Stat, after: &Stat) -> bool {
    before.st_size == after.st_size
        && before.st_mtime == after.st_mtime
        && before.st_mtime_nsec == after.st_mtime_nsec
        && before.st_ctime == after.st_ctime
        && before.st_ctime_nsec == after.st_ctime_nsec
}
