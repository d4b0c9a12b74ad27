//! Partitions announced to the kernel one by one (`BLKPG` of `linux/blkpg.h`, as `partx -a` does).
//!
//! BLKRRPART is no replacement: it needs the table on disk, fails with EBUSY as soon as one partition is in
//! use, and does nothing on kernels without the table's parser. With BLKPG, partitions exist for the kernel
//! while the disk has no table yet: that is how a disk stays unbootable until the end.

use std::fs::{self, File};
use std::io;
use std::iter::repeat_n;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc::{c_char, c_int, c_longlong, c_void};

use crate::HostError;
use crate::busy::while_busy;

const ADD_PARTITION: c_int = 1;
const DEL_PARTITION: c_int = 2;
/// Longest wait for a partition's device node. devtmpfs makes the node before the ioctl returns; udev alone
/// takes longer.
const NODE_WAIT: Duration = Duration::from_secs(10);
/// Pauses while another program looks at a partition (udev's blkid, a scanner, another client's inventory):
/// five seconds in all. A program that has it open for longer uses it.
const LOOK_PAUSES: usize = 250;
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct BlkpgArg {
    op: c_int,
    flags: c_int,
    data_len: c_int,
    data: *mut c_void,
}

/// `struct blkpg_partition`: start and length in bytes.
#[repr(C)]
struct BlkpgPartition {
    start: c_longlong,
    length: c_longlong,
    number: c_int,
    /// Unused by the kernel since 2.6.
    names: [c_char; 128],
}

mod ioctl {
    nix::ioctl_write_ptr_bad!(blkpg, nix::request_code_none!(0x12, 105), super::BlkpgArg);
}

/// A partition as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelPartition {
    /// Number in the table.
    pub number: u32,
    /// First byte on the disk.
    pub start_bytes: u64,
    /// Length in bytes.
    pub len_bytes: u64,
    /// The kernel's name: `sda1`, `nvme0n1p1`.
    pub name: String,
    /// Device node: `/dev/sda1`.
    pub path: PathBuf,
}

/// Adds a partition to the kernel's view of `disk`; nothing is written.
///
/// # Errors
/// `EBUSY` when it overlaps one that is there, `EINVAL` for a range that is not on the disk.
pub fn add(disk: &File, number: u32, start_bytes: u64, len_bytes: u64) -> io::Result<()> {
    let start = c_longlong::try_from(start_bytes).map_err(io::Error::other)?;
    let length = c_longlong::try_from(len_bytes).map_err(io::Error::other)?;
    call(disk, ADD_PARTITION, number, start, length)
}

/// Removes a partition from the kernel's view of `disk`; nothing is written. It waits at most five seconds
/// while another program looks at the partition, such as udev.
///
/// # Errors
/// `EBUSY` while it is in use, `ENXIO` when there is none of that number.
pub fn del(disk: &File, number: u32) -> io::Result<()> {
    while_busy(repeat_n(LOOK_PAUSE, LOOK_PAUSES), || {
        call(disk, DEL_PARTITION, number, 0, 0)
    })
}

/// Removes every partition of the disk from the kernel's view.
///
/// # Errors
/// [`HostError`] naming the first partition that is in use.
pub fn del_all(disk: &File, disk_path: &Path) -> Result<(), HostError> {
    for partition in list(disk_path)? {
        del(disk, partition.number).map_err(|source| {
            HostError::new(format!("removing {} from the kernel", partition.name), source)
        })?;
    }
    Ok(())
}

/// Lists the partitions that the kernel knows of a disk, by number. Reads `/sys/class/block`.
///
/// # Errors
/// [`HostError`] when the disk is not there or sysfs is not mounted.
pub fn list(disk_path: &Path) -> Result<Vec<KernelPartition>, HostError> {
    let node = disk_path
        .canonicalize()
        .map_err(|source| HostError::new(format!("looking at {}", disk_path.display()), source))?;
    // Names with a slash (cciss/c0d0) have an exclamation mark in sysfs.
    let name = node
        .strip_prefix("/dev")
        .unwrap_or(&node)
        .to_string_lossy()
        .replace('/', "!");
    let dir = Path::new("/sys/class/block").join(&name);
    let entries = fs::read_dir(&dir)
        .map_err(|source| HostError::new(format!("listing the partitions in {}", dir.display()), source))?;
    let mut found: Vec<KernelPartition> = entries
        .flatten()
        .filter_map(|entry| read_partition(&entry.path()))
        .collect();
    found.sort_by_key(|partition| partition.number);
    Ok(found)
}

/// Returns the device node of partition `number` of `disk_path`. Waits up to ten seconds for it to appear.
///
/// # Errors
/// [`HostError`] when the kernel does not know that partition or the node does not appear.
pub fn node_of(disk_path: &Path, number: u32) -> Result<PathBuf, HostError> {
    let what = || format!("looking for partition {number} of {}", disk_path.display());
    let path = list(disk_path)?
        .into_iter()
        .find(|partition| partition.number == number)
        .map(|partition| partition.path)
        .ok_or_else(|| HostError::new(what(), io::Error::from(io::ErrorKind::NotFound)))?;
    let deadline = Instant::now() + NODE_WAIT;
    while !path.exists() {
        if Instant::now() >= deadline {
            return Err(HostError::new(what(), io::Error::from(io::ErrorKind::TimedOut)));
        }
        thread::sleep(LOOK_PAUSE);
    }
    Ok(path)
}

/// Returns major and minor number of the disk that a partition's device node belongs to; `None` if the kernel
/// does not tell.
#[must_use]
pub fn disk_of(partition: &Path) -> Option<(u32, u32)> {
    let device = fs::metadata(partition).ok()?.rdev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let text = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/../dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn read_partition(dir: &Path) -> Option<KernelPartition> {
    let number = |file: &str| {
        fs::read_to_string(dir.join(file))
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    let name = dir.file_name()?.to_string_lossy().into_owned();
    Some(KernelPartition {
        number: u32::try_from(number("partition")?).ok()?,
        // sysfs counts in units of 512 bytes whatever the sector size is (block/genhd.c).
        start_bytes: number("start")? * 512,
        len_bytes: number("size")? * 512,
        path: Path::new("/dev").join(name.replace('!', "/")),
        name,
    })
}

fn call(disk: &File, op: c_int, number: u32, start: c_longlong, length: c_longlong) -> io::Result<()> {
    let number = c_int::try_from(number).map_err(io::Error::other)?;
    let mut partition = BlkpgPartition {
        start,
        length,
        number,
        names: [0; 128],
    };
    let data_len = c_int::try_from(size_of::<BlkpgPartition>()).map_err(io::Error::other)?;
    let arg = BlkpgArg {
        op,
        flags: 0,
        data_len,
        data: (&raw mut partition).cast(),
    };
    // SAFETY: BLKPG reads the argument and the partition it points to, both alive until the call returns;
    // layouts are those of linux/blkpg.h.
    unsafe { ioctl::blkpg(disk.as_raw_fd(), &raw const arg) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use ka_lab::disk::{Disk, MIB};

    use super::*;
    use crate::block;

    #[test]
    fn partitions_appear_and_go_without_a_table_on_disk() {
        let scratch = Disk::scratch(64 * MIB, 512).unwrap();
        let disk = block::open_exclusive(scratch.checked().unwrap()).unwrap();
        add(&disk, 1, 1 << 20, 8 << 20).unwrap();
        add(&disk, 5, 16 << 20, 32 << 20).unwrap();
        let seen = list(scratch.device()).unwrap();
        assert_eq!(seen.len(), 2);
        assert_eq!(
            (seen[1].number, seen[1].start_bytes, seen[1].len_bytes),
            (5, 16 << 20, 32 << 20)
        );
        let node = node_of(scratch.device(), 5).unwrap();
        assert!(node.exists());
        assert_eq!(disk_of(&node), Some(block::numbers(&disk).unwrap()));
        assert!(add(&disk, 2, 2 << 20, 1 << 20).is_err(), "overlaps partition 1");
        del_all(&disk, scratch.device()).unwrap();
        assert_eq!(list(scratch.device()).unwrap(), []);
    }

    #[test]
    fn a_passing_look_at_a_partition_is_waited_for_and_a_use_is_not() {
        let scratch = Disk::scratch(64 * MIB, 512).unwrap();
        let disk = block::open_exclusive(scratch.checked().unwrap()).unwrap();
        add(&disk, 1, 1 << 20, 8 << 20).unwrap();
        let node = node_of(scratch.device(), 1).unwrap();
        let look = fs::File::open(&node).unwrap();
        let looker = thread::spawn(move || {
            thread::sleep(LOOK_PAUSE * 10);
            drop(look);
        });
        del(&disk, 1).unwrap();
        looker.join().unwrap();
        add(&disk, 1, 1 << 20, 8 << 20).unwrap();
        let _use = fs::File::open(node_of(scratch.device(), 1).unwrap()).unwrap();
        assert_eq!(del(&disk, 1).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    }

    #[test]
    fn a_missing_partition_is_named() {
        let scratch = Disk::scratch(4 * MIB, 512).unwrap();
        let error = node_of(scratch.device(), 3).unwrap_err();
        assert!(error.to_string().contains("partition 3 of /dev/loop"), "{error}");
    }
}
