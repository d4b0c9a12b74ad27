//! Whether what the golden node holds goes onto the partitions a plan gives it.

use super::{FsSpec, FsType, InstallSpec};
use crate::layout::PartitionPlan;

const MIB: u64 = 1 << 20;

/// A partition of a plan that does not take what belongs there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// The plan has no partition of that number.
    #[error("the plan of {drive} has no partition {partition} for {what}")]
    NoPartition {
        /// Golden name of the drive.
        drive: String,
        /// The number.
        partition: u32,
        /// What belongs there.
        what: String,
    },
    /// It is too small.
    #[error("{place} would be {} MiB, but {what} needs {} MiB: make it larger in the desc file, or leave something out with -x", have_bytes / MIB, needed_bytes.div_ceil(MIB))]
    TooSmall {
        /// The partition, by its golden name.
        place: String,
        /// What belongs there.
        what: String,
        /// What the plan gives, in bytes.
        have_bytes: u64,
        /// What is needed, in bytes.
        needed_bytes: u64,
    },
}

/// Checks the file systems and raw partitions of `drive` against the plan of the disk that becomes it.
///
/// # Errors
/// [`FitError`] for the first that does not fit.
pub fn check_fit(spec: &InstallSpec, drive: &str, plan: &PartitionPlan) -> Result<(), FitError> {
    let of_fs = spec
        .filesystems_of(drive)
        .map(|fs| (&fs.place, describe(fs), needed_bytes(fs)));
    let of_raw = spec.raw.iter().filter(|raw| raw.place.drive == drive);
    let of_raw = of_raw.map(|raw| {
        (
            &raw.place,
            format!("the raw copy of {}", raw.golden.path),
            raw.bytes,
        )
    });
    for (place, what, needed_bytes) in of_fs.chain(of_raw) {
        let Some(partition) = plan.find(place.partition) else {
            return Err(FitError::NoPartition {
                drive: drive.to_owned(),
                partition: place.partition,
                what,
            });
        };
        if partition.len_bytes < needed_bytes {
            let have_bytes = partition.len_bytes;
            return Err(FitError::TooSmall {
                place: place.to_string(),
                what,
                have_bytes,
                needed_bytes,
            });
        }
    }
    Ok(())
}

/// The size a partition must have at least, in bytes, for a file system with what the golden one holds.
///
/// An estimate from above of the type's own needs: journal or log, inode tables, second copy of metadata.
#[must_use]
pub fn needed_bytes(fs: &FsSpec) -> u64 {
    let used = fs.used_bytes;
    let inode_bytes = fs.used_inodes * 512;
    let overhead = match fs.fstype {
        // Inode tables are 1/64 of the disk, the journal of a small one 4 MiB, of a larger one up to 1/16.
        FsType::Ext2 => used / 40,
        FsType::Ext3 | FsType::Ext4 => used / 40 + (used / 16).clamp(4 * MIB, 64 * MIB),
        // The log is at least 64 MiB.
        FsType::Xfs => used / 50 + 64 * MIB,
        // Metadata twice; a chunk of each kind must be free to allocate.
        FsType::Btrfs => used / 20 + inode_bytes + 64 * MIB,
        FsType::Vfat => used / 100 + MIB,
        FsType::Jfs => used / 50 + 4 * MIB,
        FsType::Reiserfs => used / 50 + 33 * MIB,
        FsType::F2fs => used / 10 + 48 * MIB,
        FsType::Swap => 0,
    };
    (used + overhead).max(fs.fstype.minimum_bytes())
}

fn describe(fs: &FsSpec) -> String {
    match fs.mounts.first() {
        Some(mount) => format!(
            "{} ({}, {} MiB in use)",
            mount.path,
            fs.fstype,
            fs.used_bytes / MIB
        ),
        None => fs.fstype.to_string(),
    }
}
