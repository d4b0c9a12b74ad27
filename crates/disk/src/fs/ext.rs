//! Arguments of mke2fs(8) for a file system with the features of the golden one.

use super::Target;
use super::tools::ToolVersion;
use crate::spec::{ExtFeatures, FsSpec};

/// Features that mke2fs takes with `-O`, and the e2fsprogs release that first took them (its release notes).
///
/// These are left out on purpose:
///
/// - `mmp` and `journal_dev`: for disks shared between machines, and journals elsewhere
/// - `bigalloc`: block counts of the golden disk
/// - `read-only` and `shared_blocks`: such a file system is not writable
const FEATURES: [(&str, ToolVersion); 29] = [
    ("has_journal", ToolVersion(0, 0)),
    ("ext_attr", ToolVersion(0, 0)),
    ("resize_inode", ToolVersion(0, 0)),
    ("dir_index", ToolVersion(0, 0)),
    ("filetype", ToolVersion(0, 0)),
    ("sparse_super", ToolVersion(0, 0)),
    ("sparse_super2", ToolVersion(1, 43)),
    ("large_file", ToolVersion(0, 0)),
    ("meta_bg", ToolVersion(0, 0)),
    ("extent", ToolVersion(1, 41)),
    ("extents", ToolVersion(1, 41)),
    ("flex_bg", ToolVersion(1, 41)),
    ("huge_file", ToolVersion(1, 41)),
    ("uninit_bg", ToolVersion(1, 41)),
    ("dir_nlink", ToolVersion(1, 41)),
    ("extra_isize", ToolVersion(1, 41)),
    ("64bit", ToolVersion(1, 42)),
    ("quota", ToolVersion(1, 42)),
    ("metadata_csum", ToolVersion(1, 43)),
    ("metadata_csum_seed", ToolVersion(1, 43)),
    ("encrypt", ToolVersion(1, 43)),
    ("inline_data", ToolVersion(1, 43)),
    ("project", ToolVersion(1, 43)),
    ("large_dir", ToolVersion(1, 44)),
    ("ea_inode", ToolVersion(1, 44)),
    ("verity", ToolVersion(1, 45)),
    ("casefold", ToolVersion(1, 45)),
    ("fast_commit", ToolVersion(1, 46)),
    ("orphan_file", ToolVersion(1, 47)),
];

/// Range that mke2fs accepts for `-i`, in bytes.
const BYTES_PER_INODE: std::ops::RangeInclusive<u64> = 1024..=64 << 20;
/// Mount options that mke2fs.conf writes into every new super block.
const USUAL_MOUNT_OPTIONS: [&str; 2] = ["user_xattr", "acl"];
/// Bytes per inode that mke2fs takes without `-i` (mke2fs.conf(5)).
const USUAL_BYTES_PER_INODE: u64 = 16384;
/// Divisor for spare inodes on a clone's much smaller disk: an eighth more than the golden node uses.
const SPARE_INODES_SHARE: u64 = 8;

/// Returns the options for the golden features; the caller adds the type, label, UUID and device.
pub(super) fn options(
    fs: &FsSpec,
    golden: &ExtFeatures,
    target: &Target,
    version: ToolVersion,
) -> Vec<String> {
    let mut args = Vec::new();
    // A block cannot be smaller than a sector of the disk: a file system with 1 KiB blocks gets larger ones
    // on 4 KiB sectors.
    let block_size = golden.block_size.max(target.sector_size);
    args.extend(["-b".to_owned(), block_size.to_string()]);
    args.extend(["-I".to_owned(), golden.inode_size.min(block_size).to_string()]);
    let wanted = wanted_inodes(fs);
    args.extend(if golden.bytes_per_inode <= target.len_bytes / wanted {
        let range = *BYTES_PER_INODE.start()..=*BYTES_PER_INODE.end();
        let ratio = golden.bytes_per_inode.clamp(*range.start(), *range.end());
        ["-i".to_owned(), ratio.to_string()]
    } else {
        ["-N".to_owned(), wanted.to_string()]
    });
    let (whole, hundredths) = (golden.reserved_hundredths / 100, golden.reserved_hundredths % 100);
    args.extend(["-m".to_owned(), format!("{whole}.{hundredths:02}")]);
    args.extend(["-O".to_owned(), feature_list(golden, version)]);
    args
}

/// Returns the mount options that a tune2fs(8) run after mke2fs has to set, if the golden super block has
/// unusual ones.
pub(super) fn unusual_mount_options(golden: &ExtFeatures) -> Option<String> {
    let known = golden.default_mount_options.iter();
    let unusual: Vec<&str> = known
        .map(String::as_str)
        .filter(|option| !USUAL_MOUNT_OPTIONS.contains(option))
        .collect();
    (!unusual.is_empty()).then(|| unusual.join(","))
}

/// Returns the value of `-O`. It begins with `none`, so that the file system gets exactly the golden features
/// and nothing of this mke2fs.conf. A golden kernel or boot loader may not know the defaults of a newer
/// mke2fs (GRUB 2.06 stops at `metadata_csum_seed`).
fn feature_list(golden: &ExtFeatures, version: ToolVersion) -> String {
    let known = |name: &&String| {
        FEATURES
            .iter()
            .any(|(feature, since)| feature == name && version >= *since)
    };
    let kept = golden.features.iter().filter(known).map(String::as_str);
    std::iter::once("none").chain(kept).collect::<Vec<_>>().join(",")
}

/// Returns the options for mke2fs's own defaults, with an inode for every file of the golden node.
pub(super) fn default_options(fs: &FsSpec, target: &Target) -> Vec<String> {
    let wanted = wanted_inodes(fs);
    if target.len_bytes / USUAL_BYTES_PER_INODE >= wanted {
        return Vec::new();
    }
    vec!["-N".to_owned(), wanted.to_string()]
}

/// Returns the number of inodes that a clone of this file system needs.
pub(crate) fn wanted_inodes(fs: &FsSpec) -> u64 {
    fs.used_inodes + fs.used_inodes / SPARE_INODES_SHARE + 64
}
