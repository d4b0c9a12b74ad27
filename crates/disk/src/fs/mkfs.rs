//! The argument lists that make each type of file system. They are chosen so that no tool asks a question.

use super::tools::{ToolVersion, ToolVersions};
use super::{FsError, Target, ToolRun, ext};
use crate::fs_type::FsType;
use crate::spec::{FatFeatures, FsFeatures, FsSpec, XfsFeatures};

const MIB: u64 = 1 << 20;
/// The fewest clusters of a FAT32: with fewer, firmware takes it for a FAT16 (Microsoft's FAT specification,
/// section 3.5).
const FAT32_MIN_CLUSTERS: u64 = 65_525;
/// The largest FAT16 in bytes: at most 65 524 clusters, of at most 32 KiB so that every reader accepts them.
const FAT16_MAX_BYTES: u64 = 2047 * MIB;
/// Usual size of an inode in bytes (mkfs.xfs(8)).
const XFS_INODE_BYTES: u64 = 512;
const FAT16_MIN_BYTES: u64 = 5 * MIB;
const FAT12_MAX_BYTES: u64 = 15 * MIB;

/// Returns the tool runs that make one file system, in order.
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

/// Checks that the label fits the type. The length counts in bytes, as in the super blocks.
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
        // One -f means "although it is no ordinary partition", two mean "and do not ask" (mkreiserfs(8)).
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

/// Returns the runs for everything that mkfs cannot do by itself.
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

/// A feature of XFS, as mkfs.xfs(8) takes it.
struct XfsOption {
    name: &'static str,
    letter: &'static str,
    /// First version of mkfs.xfs that knows it.
    since: ToolVersion,
}

const fn xfs_option(name: &'static str, letter: &'static str, since: ToolVersion) -> XfsOption {
    XfsOption { name, letter, since }
}

/// The known features, in the order in which they are given.
const XFS_OPTIONS: [XfsOption; 12] = [
    xfs_option("crc", "-m", ToolVersion(3, 2)),
    xfs_option("finobt", "-m", ToolVersion(3, 2)),
    xfs_option("rmapbt", "-m", ToolVersion(4, 9)),
    xfs_option("reflink", "-m", ToolVersion(4, 9)),
    xfs_option("bigtime", "-m", ToolVersion(5, 10)),
    xfs_option("inobtcount", "-m", ToolVersion(5, 10)),
    xfs_option("metadir", "-m", ToolVersion(6, 13)),
    xfs_option("sparse", "-i", ToolVersion(4, 2)),
    xfs_option("nrext64", "-i", ToolVersion(5, 19)),
    xfs_option("exchange", "-i", ToolVersion(6, 10)),
    xfs_option("ftype", "-n", ToolVersion(3, 2)),
    xfs_option("parent", "-n", ToolVersion(6, 10)),
];

/// True if mkfs.xfs has an option for this feature, as xfs_info names it.
pub(crate) fn is_known_xfs_feature(name: &str) -> bool {
    XFS_OPTIONS.iter().any(|option| option.name == name)
}

fn xfs_options(golden: &XfsFeatures, target: &Target, version: ToolVersion) -> Vec<String> {
    let golden_has = |name: &str| {
        golden
            .flags
            .iter()
            .find(|(flag, _)| flag == name)
            .map(|(_, on)| *on)
    };
    let has_crc = golden_has("crc") != Some(false);
    let settings = |letter: &str| -> Vec<String> {
        let known = XFS_OPTIONS
            .iter()
            .filter(|option| option.letter == letter && version >= option.since);
        // Version 4 has ftype as an option. Version 5 always has it, and an old mkfs.xfs refuses the option
        // there.
        let allowed = known.filter(|option| option.name != "ftype" || !has_crc);
        let set = allowed.filter_map(|option| {
            // The golden tool prints every feature that it knows. A feature that it does not print is newer
            // than the tool. Newer tools make such a feature by default, though the golden kernel and loader
            // may not be able to read it.
            let on = match golden_has(option.name) {
                None if golden.flags.is_empty() => return None,
                None if option.name == "ftype" => return None,
                found => found.unwrap_or(false),
            };
            Some(format!("{}={}", option.name, u8::from(on)))
        });
        set.collect()
    };
    let mut args = words(&["-q", "-f"]);
    let mut add = |letter: &str, settings: Vec<String>| {
        if !settings.is_empty() {
            args.extend(words(&[letter, &settings.join(",")]));
        }
    };
    add("-m", settings("-m"));
    let block_size = golden.block_size.max(target.sector_size);
    if golden.block_size > 0 {
        add("-b", vec![format!("size={block_size}")]);
    }
    let mut inodes = Vec::new();
    if golden.inode_size >= 256 {
        inodes.push(format!("size={}", golden.inode_size.min(block_size / 2)));
    }
    inodes.extend(settings("-i"));
    add("-i", inodes);
    let mut names = settings("-n");
    names.extend(golden.case_insensitive.then(|| "version=ci".to_owned()));
    add("-n", names);
    args
}

/// Returns the option for the share of the disk that inodes may take. mkfs.xfs allows a quarter; a clone with
/// more files than that needs the option.
fn xfs_inode_share(fs: &FsSpec, target: &Target) -> Vec<String> {
    let in_use = ext::wanted_inodes(fs) * XFS_INODE_BYTES;
    if in_use <= target.len_bytes / 5 {
        return Vec::new();
    }
    words(&["-i", "maxpct=100"])
}

/// Returns the golden width of the FAT if the partition allows it, else leaves the choice to mkfs.fat.
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
