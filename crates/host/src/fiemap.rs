//! The place of a file on its device (`FS_IOC_FIEMAP`, kernel `Documentation/filesystems/fiemap.rst`).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `struct fiemap` with room for one `struct fiemap_extent`.
#[repr(C)]
#[derive(Default)]
struct OneExtent {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
    logical: u64,
    physical: u64,
    extent_length: u64,
    reserved64: [u64; 2],
    extent_flags: u32,
    extent_reserved: [u32; 3],
}

/// Length of `struct fiemap` alone in bytes; the ioctl number contains it.
const HEADER_BYTES: usize = 32;
/// `FIEMAP_FLAG_SYNC`: the kernel first writes out what is only in memory.
const SYNC: u32 = 1;
/// Flags of extents without a place on the device: `FIEMAP_EXTENT_UNKNOWN`, `DELALLOC`, `ENCODED`,
/// `DATA_ENCRYPTED`, `NOT_ALIGNED`, `DATA_INLINE`, `DATA_TAIL`.
const PLACELESS: u32 = 0x2 | 0x4 | 0x8 | 0x80 | 0x100 | 0x200 | 0x400;

/// Returns the place of the first byte of an open file, in bytes from the start of the file system's device.
/// `None` if it has no such place. Btrfs answers in addresses of its own, which are no places on a device.
///
/// # Errors
/// `EOPNOTSUPP` or `ENOTTY` if the file system cannot tell.
pub fn first_byte(file: impl AsFd) -> io::Result<Option<u64>> {
    let mut map = OneExtent {
        length: u64::MAX,
        flags: SYNC,
        extent_count: 1,
        ..OneExtent::default()
    };
    let request = nix::request_code_readwrite!(b'f', 11, HEADER_BYTES);
    // SAFETY: the kernel reads the header and writes at most `extent_count` = 1 extent behind it, for which
    // there is room.
    if unsafe { nix::libc::ioctl(file.as_fd().as_raw_fd(), request, &raw mut map) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let has_place = map.mapped_extents == 1 && map.logical == 0 && map.extent_flags & PLACELESS == 0;
    Ok(has_place.then_some(map.physical))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_place_or_its_file_system_says_that_it_cannot_tell() {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &[7; 65536]).unwrap();
        match first_byte(&file) {
            Ok(place) => assert_ne!(place, Some(0)),
            Err(error) => assert!(matches!(
                error.raw_os_error(),
                Some(nix::libc::EOPNOTSUPP | nix::libc::ENOTTY)
            )),
        }
    }
}
