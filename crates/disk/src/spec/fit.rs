//! Whether what the golden node holds goes onto the partitions a plan gives it.

use super::{FsSpec, FsType, InstallSpec, RawSpec};
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
    /// A raw copy keeps its block size, and the disk's sectors are larger.
    #[error(
        "{what} holds a file system with blocks of {block_size} bytes, which no disk with sectors of {sector_size} \
         bytes can serve: choose another disk with --disk, or clone its files instead (leave out -D)"
    )]
    SectorsTooLarge {
        /// The raw copy.
        what: String,
        /// Of the file system, in bytes.
        block_size: u32,
        /// Of the disk, in bytes.
        sector_size: u32,
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
    let raw_copies = || spec.raw.iter().filter(|raw| raw.place.drive == drive);
    let of_raw = raw_copies().map(|raw| (&raw.place, describe_raw(raw), raw.bytes));
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
    let sector_size = plan.table.sector_size;
    match raw_copies().find(|raw| (1..sector_size).contains(&raw.block_size)) {
        Some(raw) => Err(FitError::SectorsTooLarge {
            what: describe_raw(raw),
            block_size: raw.block_size,
            sector_size,
        }),
        None => Ok(()),
    }
}

/// The size a partition must have at least, in bytes, for a file system with what the golden one holds.
///
/// An estimate from above of the type's own needs: journal or log, inode tables, second copy of metadata. But a
/// file system of the golden type always goes onto a partition of the golden size.
#[must_use]
pub fn needed_bytes(fs: &FsSpec) -> u64 {
    let used = fs.used_bytes;
    let overhead = match fs.fstype {
        // Inode tables are 1/64 of the disk with the usual ratio.
        FsType::Ext2 => used / 40,
        FsType::Ext3 | FsType::Ext4 => used / 40 + journal_bytes(used),
        // The log is at least 64 MiB since xfsprogs 5.19, and 1/2000 of a large disk.
        FsType::Xfs => used / 50 + 64 * MIB,
        // Metadata twice; a chunk of each kind must be free to allocate.
        FsType::Btrfs => used / 20 + fs.used_inodes * 512 + 64 * MIB,
        FsType::Vfat => used / 100 + MIB,
        FsType::Jfs => used / 50 + 4 * MIB,
        FsType::Reiserfs => used / 50 + 33 * MIB,
        FsType::F2fs => used / 10 + 48 * MIB,
        FsType::Swap => 0,
    };
    let estimate = (used + overhead).max(fs.fstype.minimum_bytes());
    let same_type = fs.golden_fstype.is_none() && fs.golden_bytes > 0;
    if same_type {
        estimate.min(fs.golden_bytes)
    } else {
        estimate
    }
}

/// The journal that mke2fs makes by itself (e2fsprogs, `ext2fs_default_journal_size`), for 4 KiB blocks.
fn journal_bytes(used: u64) -> u64 {
    match used / MIB {
        0..128 => 4 * MIB,
        128..1024 => 16 * MIB,
        1024..2048 => 32 * MIB,
        2048..16384 => 64 * MIB,
        16384..32768 => 128 * MIB,
        32768..65536 => 256 * MIB,
        _ => 1024 * MIB,
    }
}

fn describe_raw(raw: &RawSpec) -> String {
    format!("the raw copy of {}", raw.golden.path)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desc::Desc;
    use crate::layout::{self, Geometry, Source};
    use crate::spec::{GoldenDevice, Place};
    use crate::table::TableKind;

    fn fs(fstype: FsType, used_mib: u64, golden_mib: u64) -> FsSpec {
        let place = Place {
            drive: "sda".to_owned(),
            partition: 1,
        };
        FsSpec {
            used_bytes: used_mib * MIB,
            golden_bytes: golden_mib * MIB,
            ..FsSpec::new(0, place, fstype)
        }
    }

    fn plan_of(desc: &str) -> PartitionPlan {
        let source = Source::Desc(Desc::parse(desc, "desc").unwrap());
        let geometry = Geometry {
            disk_bytes: 1000 * MIB,
            sector_size: 512,
        };
        layout::plan(&source, &geometry, TableKind::Gpt, false, &mut uuid::Uuid::new_v4).unwrap()
    }

    #[test]
    fn partitions_that_are_missing_or_too_small_are_named_with_what_to_do() {
        let mut spec = InstallSpec {
            filesystems: vec![fs(FsType::Ext4, 100, 0)],
            ..InstallSpec::empty(String::new())
        };
        check_fit(&spec, "sda", &plan_of("linux 200\n")).unwrap();
        let error = check_fit(&spec, "sda", &plan_of("linux 90\nlinux fill\n"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("sda1 would be 90 MiB, but ext4 needs 10"),
            "{error}"
        );
        assert!(error.ends_with("or leave something out with -x"), "{error}");
        let place = Place {
            drive: "sda".to_owned(),
            partition: 2,
        };
        spec.raw.push(RawSpec {
            place,
            bytes: 300 * MIB,
            golden: GoldenDevice::default(),
            block_size: 512,
        });
        assert!(
            check_fit(&spec, "sda", &plan_of("linux 200\n"))
                .unwrap_err()
                .to_string()
                .contains("no partition 2")
        );
        check_fit(&spec, "sda", &plan_of("linux 200\nlinux 300\n")).unwrap();
        assert!(check_fit(&spec, "sda", &plan_of("linux 200\nlinux 299\n")).is_err());
        check_fit(&spec, "sdb", &plan_of("linux 1\n")).unwrap();
    }

    #[test]
    fn a_raw_copy_with_small_blocks_does_not_go_onto_large_sectors() {
        let place = Place {
            drive: "sda".to_owned(),
            partition: 1,
        };
        let raw = RawSpec {
            place,
            bytes: MIB,
            golden: GoldenDevice::default(),
            block_size: 1024,
        };
        let mut spec = InstallSpec {
            raw: vec![raw],
            ..InstallSpec::empty(String::new())
        };
        let mut plan = plan_of("linux 200\n");
        check_fit(&spec, "sda", &plan).unwrap();
        plan.table.sector_size = 4096;
        let error = check_fit(&spec, "sda", &plan).unwrap_err().to_string();
        assert!(
            error.contains("blocks of 1024 bytes") && error.contains("sectors of 4096"),
            "{error}"
        );
        spec.raw[0].block_size = 0;
        check_fit(&spec, "sda", &plan).unwrap();
    }

    #[test]
    fn a_full_file_system_still_goes_onto_a_partition_of_its_own_size() {
        assert_eq!(needed_bytes(&fs(FsType::Ext4, 990, 1000)), 1000 * MIB);
        assert!(needed_bytes(&fs(FsType::Ext4, 500, 1000)) < 600 * MIB);
    }

    #[test]
    fn another_type_must_have_room_for_its_own_needs() {
        let changed = FsSpec {
            golden_fstype: Some(FsType::Ext4),
            ..fs(FsType::Xfs, 100, 120)
        };
        assert_eq!(needed_bytes(&changed), 300 * MIB, "mkfs.xfs makes none smaller");
    }

    #[test]
    fn an_empty_file_system_needs_what_its_tool_needs() {
        for fstype in FsType::ALL {
            assert!(needed_bytes(&fs(fstype, 0, 0)) >= fstype.minimum_bytes());
        }
    }
}
