//! btrfs subvolumes: making one inside a directory, reading and setting its read-only mark (`linux/btrfs.h`).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::libc::EINVAL;

/// The inode number of every subvolume's root (`BTRFS_FIRST_FREE_OBJECTID`).
pub const ROOT_INODE: u64 = 256;

/// Flag of a read-only subvolume: `BTRFS_SUBVOL_RDONLY`.
const READ_ONLY: u64 = 1 << 1;
/// Longest name in bytes: `BTRFS_PATH_NAME_MAX`.
const NAME_MAX: usize = 4087;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct VolumeArgs {
    fd: i64,
    name: [u8; NAME_MAX + 1],
}

mod ioctl {
    nix::ioctl_write_ptr!(subvolume_create, 0x94, 14, super::VolumeArgs);
    nix::ioctl_read!(subvolume_get_flags, 0x94, 25, u64);
    nix::ioctl_write_ptr!(subvolume_set_flags, 0x94, 26, u64);
}

/// Makes an empty subvolume called `name` in the open directory `parent`.
///
/// # Errors
/// `ENOTTY` if the file system is not btrfs, `EINVAL` for a name with `/` or NUL, `EEXIST` and so on.
pub fn create(parent: impl AsFd, name: &[u8]) -> io::Result<()> {
    if name.is_empty() || name.len() > NAME_MAX || name.contains(&b'/') || name.contains(&0) {
        return Err(io::Error::from_raw_os_error(EINVAL));
    }
    let mut args = VolumeArgs {
        fd: 0,
        name: [0; NAME_MAX + 1],
    };
    args.name[..name.len()].copy_from_slice(name);
    // SAFETY: the descriptor is open for the whole call; the structure has the layout of
    // `struct btrfs_ioctl_vol_args` and its name ends with a NUL because it is shorter than the array.
    unsafe { ioctl::subvolume_create(parent.as_fd().as_raw_fd(), &args) }?;
    Ok(())
}

/// True if the open subvolume root is marked read-only.
///
/// # Errors
/// `ENOTTY` if it is not btrfs, `EINVAL` if it is not a subvolume's root.
pub fn is_read_only(root: impl AsFd) -> io::Result<bool> {
    Ok(flags(&root)? & READ_ONLY != 0)
}

/// Marks the open subvolume root read-only. The mark takes effect after everything already written.
///
/// # Errors
/// As [`is_read_only`].
pub fn set_read_only(root: impl AsFd) -> io::Result<()> {
    let wanted = flags(&root)? | READ_ONLY;
    // SAFETY: the descriptor is open for the whole call, the kernel reads one u64.
    unsafe { ioctl::subvolume_set_flags(root.as_fd().as_raw_fd(), &wanted) }?;
    Ok(())
}

fn flags(root: &impl AsFd) -> io::Result<u64> {
    let mut flags = 0;
    // SAFETY: the descriptor is open for the whole call, the kernel writes one u64.
    unsafe { ioctl::subvolume_get_flags(root.as_fd().as_raw_fd(), &mut flags) }?;
    Ok(flags)
}
