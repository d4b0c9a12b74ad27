//! Project ids of files (`FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR` of `linux/fs.h`).
//!
//! The flags of `chattr` need nothing here: rustix has safe calls for them.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `struct fsxattr`.
#[repr(C)]
#[derive(Default)]
struct FsXattr {
    xflags: u32,
    extent_size: u32,
    extents: u32,
    project_id: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

mod ioctl {
    nix::ioctl_read!(fs_get_xattr, b'X', 31, super::FsXattr);
    nix::ioctl_write_ptr!(fs_set_xattr, b'X', 32, super::FsXattr);
}

/// Returns the project id of an open file or directory; 0 is the default one.
///
/// # Errors
/// `ENOTTY` or `EOPNOTSUPP` if the file system has none.
pub fn project_id(file: impl AsFd) -> io::Result<u32> {
    read(&file).map(|attributes| attributes.project_id)
}

/// Sets the project id of an open file or directory.
///
/// # Errors
/// `ENOTTY`, `EOPNOTSUPP` or `EINVAL` if the file system has none.
pub fn set_project_id(file: impl AsFd, project_id: u32) -> io::Result<()> {
    let attributes = FsXattr {
        project_id,
        ..read(&file)?
    };
    // SAFETY: the descriptor is open for the whole call and the structure has the layout of `struct fsxattr`.
    unsafe { ioctl::fs_set_xattr(file.as_fd().as_raw_fd(), &attributes) }?;
    Ok(())
}

fn read(file: &impl AsFd) -> io::Result<FsXattr> {
    let mut attributes = FsXattr::default();
    // SAFETY: the descriptor is open for the whole call and the structure has the layout of `struct fsxattr`.
    unsafe { ioctl::fs_get_xattr(file.as_fd().as_raw_fd(), &mut attributes) }?;
    Ok(attributes)
}
