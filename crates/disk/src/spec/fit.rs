//! The check that the golden node's contents fit onto the partitions of a plan.

use super::{FsFeatures, FsSpec, InstallSpec, RawSpec};
use crate::fs::wanted_inodes;
use crate::fs_type::FsType;
use crate::layout::PartitionPlan;

const MIB: u64 = 1 << 20;
/// Block size in bytes that mke2fs and the others take for all but the smallest file systems.
const USUAL_BLOCK_BYTES: u32 = 4096;
/// Bytes per inode in mke2fs.conf.
const USUAL_BYTES_PER_INODE: u64 = 16384;

/// A partition of a plan that cannot hold its contents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// The plan has no partition of that number.
    #[error("the plan of {drive} has no partition {partition} for {what}")]
    NoPartition {
        /// Golden name of the drive.
        drive: String,
        /// Number that the plan lacks.
        partition: u32,
        /// File system or raw copy that belongs there.
        what: String,
    },
    /// The partition is too small.
    #[error("{place} would be {} MiB, but {what} needs {} MiB: make it larger in the desc file, or leave something out with -x", have_bytes / MIB, needed_bytes.div_ceil(MIB))]
    TooSmall {
        /// The partition, by its golden name.
        place: String,
        /// File system or raw copy that belongs there.
        what: String,
        /// Size of the partition in the plan, in bytes.
        have_bytes: u64,
        /// Size that is needed, in bytes.
        needed_bytes: u64,
    },
    /// A raw copy keeps its block size, and the disk's sectors are larger.
    #[error(
        "{what} holds a file system with blocks of {block_size} bytes, which no disk with sectors of {sector_size} \
         bytes can serve: choose another disk with --disk, or clone its files instead (leave out -D)"
    )]
    SectorsTooLarge {
        /// Name of the raw copy, for the message.
        what: String,
        /// Block size of the file system in bytes.
        block_size: u32,
        /// Sector size of the disk in bytes.
        sector_size: u32,
    },
}

/// Checks the file systems and raw partitions of `drive` against the plan of the disk that becomes it.
///
/// # Errors
/// [`FitError`] for the first that does not fit.
pub fn check_fit(spec: &InstallSpec, drive: &str, plan: &PartitionPlan) -> Result<(), FitError> {
    let sector_size = plan.table.sector_size;
    let of_fs = spec
        .filesystems_of(drive)
        .map(|fs| (&fs.place, describe(fs), needed_on(fs, sector_size)));
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
    match raw_copies().find(|raw| (1..sector_size).contains(&raw.block_size)) {
        Some(raw) => Err(FitError::SectorsTooLarge {
            what: describe_raw(raw),
            block_size: raw.block_size,
            sector_size,
        }),
        None => Ok(()),
    }
}

/// Returns the smallest size in bytes of a partition for a file system with the golden one's contents.
///
/// The type's own needs are estimated from above: journal or log, inode tables, second copy of metadata. But
/// a file system of the golden type always fits onto a partition of the golden size. The exception is one
/// whose files shared blocks or were compressed there and are not so in the clone.
#[must_use]
pub fn needed_bytes(fs: &FsSpec) -> u64 {
    needed_on(fs, fs.golden_block_bytes.clamp(512, USUAL_BLOCK_BYTES))
}

/// Returns [`needed_bytes`] for a disk of that sector size: blocks are never smaller than a sector, and each
/// file wastes a part of one.
fn needed_on(fs: &FsSpec, sector_size: u32) -> u64 {
    let wasted = wasted_bytes(fs, sector_size);
    let used = fs.used_bytes.saturating_sub(fs.expanded_bytes);
    let estimate = (used + overhead_bytes(fs, used)).max(fs.fstype.minimum_bytes());
    let same_type = fs.golden_fstype.is_none() && fs.golden_bytes > 0;
    let as_golden = if same_type {
        estimate.min(fs.golden_bytes)
    } else {
        estimate
    };
    // The file system's own overhead grows with contents that are stored several times.
    as_golden + wasted + fs.expanded_bytes + fs.expanded_bytes / 20
}

fn overhead_bytes(fs: &FsSpec, used: u64) -> u64 {
    let inodes = fs.used_inodes;
    // The golden type counts its inodes among the bytes in use.
    let new_inodes = if fs.golden_fstype.is_some() { inodes } else { 0 };
    match fs.fstype {
        FsType::Ext2 => inode_tables(fs, used + used / 100),
        FsType::Ext3 | FsType::Ext4 => {
            let journal = journal_bytes(used);
            journal + inode_tables(fs, used + used / 100 + journal)
        }
        // The log is at least 64 MiB since xfsprogs 5.19, and 1/2000 of a large disk.
        FsType::Xfs => used / 50 + new_inodes * 512 + 64 * MIB,
        // Metadata has two copies; a chunk of each kind must be free to allocate.
        FsType::Btrfs => used / 20 + inodes * 512 + 64 * MIB,
        FsType::Vfat => used / 100 + MIB,
        FsType::Jfs => used / 50 + new_inodes * 512 + 4 * MIB,
        FsType::Reiserfs => used / 50 + 33 * MIB,
        // Each inode has a block of its own.
        FsType::F2fs => used / 10 + new_inodes * 4096 + 48 * MIB,
        FsType::Swap => 0,
    }
}

/// Returns the bytes that mke2fs takes for inodes on a file system that just holds `content`, and a hundredth
/// for all else. The inodes are a share of the disk by its ratio, and at least a table for those in use.
fn inode_tables(fs: &FsSpec, content: u64) -> u64 {
    let (ratio, inode_size) = match &fs.features {
        FsFeatures::Ext(golden) => (golden.bytes_per_inode, u64::from(golden.inode_size)),
        _ => (USUAL_BYTES_PER_INODE, 256),
    };
    let by_ratio = (content * inode_size).checked_div(ratio.saturating_sub(inode_size));
    let in_use = wanted_inodes(fs) * inode_size;
    content / 100 + by_ratio.unwrap_or(content).min(content).max(in_use)
}

/// Returns the bytes that the ends of files waste on a file system with larger blocks than the golden one:
/// most of the difference.
fn wasted_bytes(fs: &FsSpec, sector_size: u32) -> u64 {
    let block = match (&fs.features, fs.fstype) {
        (FsFeatures::Ext(golden), _) => golden.block_size,
        (FsFeatures::Xfs(golden), _) => golden.block_size,
        (_, FsType::Vfat | FsType::Swap) => return 0,
        _ => USUAL_BLOCK_BYTES,
    };
    let larger = u64::from(block.max(sector_size).saturating_sub(fs.golden_block_bytes));
    if fs.golden_block_bytes == 0 {
        return 0;
    }
    fs.used_inodes * larger * 3 / 4
}

/// Returns the size of the journal that mke2fs chooses (e2fsprogs, `ext2fs_default_journal_size`), for 4 KiB
/// blocks.
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
    fn inodes_need_their_tables_on_a_smaller_disk() {
        let many = FsSpec {
            used_inodes: 100_000,
            ..fs(FsType::Ext4, 1, 1024)
        };
        let needed = needed_bytes(&many);
        assert!((27 * MIB..60 * MIB).contains(&needed), "{needed}");
        let onto_f2fs = FsSpec {
            golden_fstype: Some(FsType::Ext4),
            fstype: FsType::F2fs,
            ..many
        };
        assert!(needed_bytes(&onto_f2fs) > 390 * MIB);
    }

    #[test]
    fn what_is_shared_on_the_golden_node_is_needed_in_full_on_a_disk_of_its_size() {
        let shared = FsSpec {
            expanded_bytes: 900 * MIB,
            ..fs(FsType::Btrfs, 1000, 600)
        };
        assert!(needed_bytes(&shared) > 1000 * MIB);
        let plain = fs(FsType::Btrfs, 590, 600);
        assert_eq!(needed_bytes(&plain), 600 * MIB);
    }

    #[test]
    fn larger_sectors_waste_the_ends_of_small_files() {
        let small = FsSpec {
            used_inodes: 100_000,
            golden_block_bytes: 1024,
            features: FsFeatures::Ext(crate::spec::ExtFeatures {
                block_size: 1024,
                inode_size: 256,
                bytes_per_inode: 4096,
                ..crate::spec::ExtFeatures::default()
            }),
            ..fs(FsType::Ext4, 100, 300)
        };
        assert!(needed_on(&small, 512) < 200 * MIB);
        assert!(needed_on(&small, 4096) > 300 * MIB);
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
