//! From what the kernel says about an entry to what the stream says.

use std::os::fd::BorrowedFd;

use ka_host::subvolume::{ROOT_INODE, is_read_only};
use rustix::fs::{Stat, Statx};

use crate::meta::{Meta, Subvolume, Time};

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

/// Whether an open directory is a btrfs subvolume: its root has a fixed inode number, and only btrfs answers.
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

/// Whether both looks saw the same content: size and times. A write changes both times; who puts the time of modification
/// back afterwards (`cp -p`, `tar`, `rsync -t`) changes the other one, which nobody can set. A store through a shared mapping
/// changes them only when its page is clean: against that no time helps.
pub(super) const fn same_content(before: &Stat, after: &Stat) -> bool {
    before.st_size == after.st_size
        && before.st_mtime == after.st_mtime
        && before.st_mtime_nsec == after.st_mtime_nsec
        && before.st_ctime == after.st_ctime
        && before.st_ctime_nsec == after.st_ctime_nsec
}
