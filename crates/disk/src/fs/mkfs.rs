//! The argument lists that make each type of file system. No tool may ever ask a question.

use super::tools::{ToolVersion, ToolVersions};
use super::{FsError, Target, ToolRun, ext};
use crate::spec::{FatFeatures, FsFeatures, FsSpec, FsType, XfsFeatures};

const MIB: u64 = 1 << 20;
/// Fewer clusters than this and firmware takes a FAT32 for a FAT16 (Microsoft's FAT specification, section 3.5).
const FAT32_MIN_CLUSTERS: u64 = 65_525;
/// FAT16 has at most 65 524 clusters, of at most 32 KiB for every reader's sake.
const FAT16_MAX_BYTES: u64 = 2047 * MIB;
/// The usual size of an inode (mkfs.xfs(8)).
const XFS_INODE_BYTES: u64 = 512;
const FAT16_MIN_BYTES: u64 = 5 * MIB;
const FAT12_MAX_BYTES: u64 = 15 * MIB;

/// The runs that make one file system, in order.
///
/// # Errors
/// [`FsError::LabelTooLong`].
pub fn mkfs_plan(fs: &FsSpec, target: &Target, tools: &ToolVersions) -> Result<Vec<ToolRun>, FsError> {
    check_label(fs)?;
    let device = target.device.to_string_lossy().into_owned();
    let mut argv = vec![fs.fstype.mkfs_program().to_owned()];
    argv.extend(type_options(fs, target, tools));
    argv.extend(label_option(fs));
    argv.extend(uuid_option(fs));
    argv.push(device.clone());
    let description = format!("Formatting {device} as {}", fs.fstype);
    let mut runs = vec![ToolRun { description, argv }];
    runs.extend(later_runs(fs, &device));
    Ok(runs)
}

/// Checks that the label fits the type. Counted in bytes, as the super blocks do.
///
/// # Errors
/// [`FsError::LabelTooLong`].
pub fn check_label(fs: &FsSpec) -> Result<(), FsError> {
    let max_bytes = fs.fstype.max_label_bytes();
    match &fs.label {
        Some(label) if label.len() > max_bytes => Err(FsError::LabelTooLong {
            label: label.clone(),
            place: fs.place.to_string(),
            fstype: fs.fstype.to_string(),
            max_bytes,
        }),
        _ => Ok(()),
    }
}

fn type_options(fs: &FsSpec, target: &Target, tools: &ToolVersions) -> Vec<String> {
    match (fs.fstype, &fs.features) {
        (FsType::Ext2 | FsType::Ext3 | FsType::Ext4, features) => {
            let mut args = words(&["-q", "-F", "-t", fs.fstype.name()]);
            args.extend(match features {
                FsFeatures::Ext(golden) => ext::options(fs, golden, target, tools.mke2fs),
                _ => ext::default_options(fs, target),
            });
            args
        }
        (FsType::Xfs, FsFeatures::Xfs(golden)) => {
            let mut args = xfs_options(golden, target, tools.mkfs_xfs);
            args.extend(xfs_inode_share(fs, target));
            args
        }
        (FsType::Btrfs, FsFeatures::Btrfs(golden)) if golden.node_size > 0 => {
            words(&["-q", "-f", "-n", &golden.node_size.to_string()])
        }
        (FsType::Vfat, FsFeatures::Fat(golden)) => fat_options(*golden, target),
        (FsType::F2fs, FsFeatures::F2fs(golden)) if !golden.features.is_empty() => {
            words(&["-q", "-f", "-O", &golden.features.join(",")])
        }
        (FsType::Xfs, _) => {
            let mut args = words(&["-q", "-f"]);
            args.extend(xfs_inode_share(fs, target));
            args
        }
        (FsType::Btrfs | FsType::F2fs, _) => words(&["-q", "-f"]),
        (FsType::Vfat, _) => Vec::new(),
        (FsType::Jfs, _) => words(&["-q"]),
        // Once means "although it is no ordinary partition", twice "and do not ask" (mkreiserfs(8)).
        (FsType::Reiserfs, _) => words(&["-q", "-f", "-f"]),
        (FsType::Swap, _) => words(&["-f"]),
    }
}

fn label_option(fs: &FsSpec) -> Vec<String> {
    let Some(label) = fs.label.as_deref().filter(|label| !label.is_empty()) else {
        return Vec::new();
    };
    let letter = match fs.fstype {
        FsType::Vfat => "-n",
        FsType::Reiserfs | FsType::F2fs => "-l",
        _ => "-L",
    };
    words(&[letter, label])
}

fn uuid_option(fs: &FsSpec) -> Vec<String> {
    let Some(uuid) = fs.uuid.as_deref() else {
        return Vec::new();
    };
    match fs.fstype {
        FsType::Xfs => words(&["-m", &format!("uuid={uuid}")]),
        FsType::Vfat => words(&["-i", &uuid.replace('-', "")]),
        FsType::Reiserfs => words(&["-u", uuid]),
        FsType::Jfs => Vec::new(),
        _ => words(&["-U", uuid]),
    }
}

/// What mkfs cannot do by itself.
fn later_runs(fs: &FsSpec, device: &str) -> Vec<ToolRun> {
    let mut runs = Vec::new();
    if let (FsType::Jfs, Some(uuid)) = (fs.fstype, &fs.uuid) {
        let description = format!("Setting the UUID of {device}");
        runs.push(ToolRun {
            description,
            argv: words(&["jfs_tune", "-U", uuid, device]),
        });
    }
    if let FsFeatures::Ext(golden) = &fs.features
        && let Some(options) = ext::unusual_mount_options(golden)
    {
        let description = format!("Setting the default mount options of {device}");
        runs.push(ToolRun {
            description,
            argv: words(&["tune2fs", "-o", &options, device]),
        });
    }
    runs
}

fn xfs_options(golden: &XfsFeatures, target: &Target, version: ToolVersion) -> Vec<String> {
    let known = |name: &str| match name {
        "crc" | "finobt" | "ftype" => version >= ToolVersion(3, 2),
        "rmapbt" | "reflink" => version >= ToolVersion(4, 9),
        "bigtime" | "inobtcount" => version >= ToolVersion(5, 10),
        _ => false,
    };
    let has_crc = !golden.flags.iter().any(|(name, on)| name == "crc" && !on);
    let mut metadata = Vec::new();
    let mut args = words(&["-q", "-f"]);
    for (name, on) in golden.flags.iter().filter(|(name, _)| known(name)) {
        let setting = format!("{name}={}", u8::from(*on));
        match name.as_str() {
            // Version 4 has ftype as an option; version 5 always has it, and an old mkfs.xfs says so rudely.
            "ftype" if !has_crc => args.extend(words(&["-n", &setting])),
            "ftype" => {}
            _ => metadata.push(setting),
        }
    }
    if !metadata.is_empty() {
        args.extend(words(&["-m", &metadata.join(",")]));
    }
    let block_size = golden.block_size.max(target.sector_size);
    if golden.block_size > 0 {
        args.extend(words(&["-b", &format!("size={block_size}")]));
    }
    if golden.inode_size >= 256 {
        args.extend(words(&[
            "-i",
            &format!("size={}", golden.inode_size.min(block_size / 2)),
        ]));
    }
    args
}

/// mkfs.xfs lets inodes have a quarter of the disk; who has more files than that must say so.
fn xfs_inode_share(fs: &FsSpec, target: &Target) -> Vec<String> {
    let in_use = ext::wanted_inodes(fs) * XFS_INODE_BYTES;
    if in_use <= target.len_bytes / 5 {
        return Vec::new();
    }
    words(&["-i", "maxpct=100"])
}

/// The golden width of the FAT where the partition allows it, else mkfs.fat's own choice.
fn fat_options(golden: FatFeatures, target: &Target) -> Vec<String> {
    let fat32_min = (FAT32_MIN_CLUSTERS + 1024) * u64::from(target.sector_size);
    let fits = match golden.fat_bits {
        32 => target.len_bytes >= fat32_min,
        16 => (FAT16_MIN_BYTES..=FAT16_MAX_BYTES).contains(&target.len_bytes) && target.sector_size == 512,
        12 => target.len_bytes <= FAT12_MAX_BYTES,
        _ => false,
    };
    if fits {
        words(&["-F", &golden.fat_bits.to_string()])
    } else {
        Vec::new()
    }
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|&word| word.to_owned()).collect()
}

#[cfg(test)]
#[path = "mkfs_tests.rs"]
mod tests;
