//! Block devices: size, sector size, flushing, zeroing. ioctls of `linux/fs.h`, blkdev ioctls.

use std::fs::{File, OpenOptions};
use std::io;
use std::iter::repeat_n;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use crate::HostError;
use crate::busy::while_busy;

/// Bytes in one write of zeros, for a device that cannot zero by itself.
const ZERO_CHUNK_BYTES: usize = 1 << 20;
/// Attempts of [`open_exclusive`] while another program briefly looks at a disk: two seconds in all.
const CLAIM_TRIES: usize = 20;
const CLAIM_PAUSE: Duration = Duration::from_millis(100);

mod ioctl {
    nix::ioctl_read_bad!(blksszget, nix::libc::BLKSSZGET, nix::libc::c_int);
    nix::ioctl_read!(blkgetsize64, 0x12, 114, usize);
    nix::ioctl_none!(blkflsbuf, 0x12, 97);
    nix::ioctl_read!(blkgetdiskseq, 0x12, 128, u64);
    nix::ioctl_write_ptr_bad!(blkzeroout, nix::request_code_none!(0x12, 127), [u64; 2]);
}

/// Opens a device for reading and writing. The kernel refuses (`EBUSY`) while it or one of its partitions is
/// mounted, used as swap or held by another exclusive opener.
///
/// # Errors
/// [`HostError`] naming the device.
pub fn open_exclusive(path: &Path) -> Result<File, HostError> {
    while_busy(repeat_n(CLAIM_PAUSE, CLAIM_TRIES), || claim(path, true)).map_err(not_claimed(path))
}

/// Opens a device like [`open_exclusive`], but only for reading and without waiting: a test if another
/// program holds it.
///
/// # Errors
/// As [`open_exclusive`].
pub fn open_exclusive_read_only(path: &Path) -> Result<File, HostError> {
    claim(path, false).map_err(not_claimed(path))
}

fn claim(path: &Path, write: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(write)
        .custom_flags(nix::libc::O_EXCL | nix::libc::O_CLOEXEC);
    options.open(path)
}

fn not_claimed(path: &Path) -> impl Fn(io::Error) -> HostError {
    move |source| HostError::new(format!("opening {} exclusively", path.display()), source)
}

/// Returns the size in bytes of a block device or a regular file.
///
/// # Errors
/// The kernel's error; `InvalidInput` for anything that is neither.
pub fn size_bytes(file: &File) -> io::Result<u64> {
    let meta = file.metadata()?;
    if meta.is_file() {
        return Ok(meta.len());
    }
    if !meta.file_type().is_block_device() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "neither a block device nor a regular file",
        ));
    }
    let mut size = 0usize;
    // SAFETY: BLKGETSIZE64 writes one u64, which `size_t` is on all 64-bit systems, into live memory.
    unsafe { ioctl::blkgetsize64(file.as_raw_fd(), &raw mut size) }?;
    Ok(size as u64)
}

/// Returns major and minor number of an open block device.
///
/// # Errors
/// The kernel's error; `InvalidInput` for anything that is no block device.
pub fn numbers(file: &File) -> io::Result<(u32, u32)> {
    let meta = file.metadata()?;
    if !meta.file_type().is_block_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a block device"));
    }
    let device = meta.rdev();
    Ok((rustix::fs::major(device), rustix::fs::minor(device)))
}

/// True if the machine has lost the block device since `file` was opened: it was unplugged, or its driver has
/// given it up. Where sysfs is not mounted, no device counts as lost.
#[must_use]
pub fn is_gone(file: &File) -> bool {
    let Ok((major, minor)) = numbers(file) else {
        return false;
    };
    let known = Path::new("/sys/dev/block");
    known.is_dir() && !known.join(format!("{major}:{minor}")).exists()
}

/// Returns the number that the kernel has given to this disk and gives to no other before the next boot;
/// `None` before Linux 5.15.
#[must_use]
pub fn disk_seq(file: &File) -> Option<u64> {
    let mut seq = 0;
    // SAFETY: BLKGETDISKSEQ writes one u64 into live memory.
    unsafe { ioctl::blkgetdiskseq(file.as_raw_fd(), &raw mut seq) }.ok()?;
    Some(seq)
}

/// Returns the logical sector size in bytes: 512 or 4096. A regular file counts as 512.
///
/// # Errors
/// The kernel's error.
pub fn sector_size(file: &File) -> io::Result<u32> {
    if file.metadata()?.is_file() {
        return Ok(512);
    }
    let mut size = 0;
    // SAFETY: BLKSSZGET writes one int into live memory.
    unsafe { ioctl::blksszget(file.as_raw_fd(), &raw mut size) }?;
    u32::try_from(size).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "negative sector size"))
}

/// Writes out and forgets the kernel's cached copy of the device, so that the next read comes from the disk.
///
/// # Errors
/// The kernel's error.
pub fn flush(file: &File) -> io::Result<()> {
    file.sync_all()?;
    if file.metadata()?.file_type().is_block_device() {
        // SAFETY: BLKFLSBUF takes no argument.
        unsafe { ioctl::blkflsbuf(file.as_raw_fd()) }?;
    }
    Ok(())
}

/// Makes a range read as zeros, by the device itself when it can, else by writing. Start and length are in
/// bytes, both multiples of the sector size.
///
/// # Errors
/// The kernel's error.
pub fn zero_out(file: &File, start_bytes: u64, len_bytes: u64) -> io::Result<()> {
    if file.metadata()?.file_type().is_block_device() {
        let range = [start_bytes, len_bytes];
        // SAFETY: BLKZEROOUT reads two u64 from live memory; the kernel checks the range.
        if unsafe { ioctl::blkzeroout(file.as_raw_fd(), &raw const range) }.is_ok() {
            return Ok(());
        }
    }
    write_zeros(file, start_bytes, len_bytes)
}

fn write_zeros(file: &File, start_bytes: u64, len_bytes: u64) -> io::Result<()> {
    let zeros = vec![0u8; ZERO_CHUNK_BYTES];
    let end = start_bytes + len_bytes;
    let mut at = start_bytes;
    while at < end {
        let chunk = usize::try_from(end - at)
            .unwrap_or(usize::MAX)
            .min(ZERO_CHUNK_BYTES);
        file.write_all_at(&zeros[..chunk], at)?;
        at += chunk as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ka_lab::disk::{Disk, MIB};

    use super::*;

    #[test]
    fn size_and_sector_size_are_those_of_the_device() {
        for sector in [512, 4096] {
            let disk = Disk::scratch(8 * MIB, sector).unwrap();
            let file = open_exclusive(disk.checked().unwrap()).unwrap();
            assert_eq!(size_bytes(&file).unwrap(), 8 << 20);
            assert_eq!(sector_size(&file).unwrap(), sector);
        }
    }

    #[test]
    fn zeroed_ranges_read_as_zeros_and_their_neighbours_stay() {
        let disk = Disk::scratch(8 * MIB, 512).unwrap();
        let file = open_exclusive(disk.checked().unwrap()).unwrap();
        file.write_all_at(&vec![0xAA; 3 << 20], 0).unwrap();
        flush(&file).unwrap();
        zero_out(&file, 1 << 20, 1 << 20).unwrap();
        flush(&file).unwrap();
        let mut read = vec![0; 3 << 20];
        file.read_exact_at(&mut read, 0).unwrap();
        assert!(read[..1 << 20].iter().all(|&byte| byte == 0xAA));
        assert!(read[1 << 20..2 << 20].iter().all(|&byte| byte == 0));
        assert!(read[2 << 20..].iter().all(|&byte| byte == 0xAA));
    }

    #[test]
    fn a_directory_has_no_size() {
        assert!(size_bytes(&File::open("/").unwrap()).is_err());
    }
}
