//! Arguments of mke2fs(8) for a file system of the same make-up as the golden one.

use super::Target;
use super::tools::ToolVersion;
use crate::spec::{ExtFeatures, FsSpec};

/// Features that mke2fs takes with `-O`, and the e2fsprogs release that first did so (its release notes).
/// Left out on purpose: `mmp` and `journal_dev` (for disks shared between machines, and journals elsewhere),
/// `bigalloc` (block counts of the golden disk), `read-only` and `shared_blocks` (cannot be written to).
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

/// The limits of mke2fs for `-i`.
const BYTES_PER_INODE: std::ops::RangeInclusive<u64> = 1024..=64 << 20;
/// Mount options that mke2fs.conf writes into every new super block.
const USUAL_MOUNT_OPTIONS: [&str; 2] = ["user_xattr", "acl"];
/// What mke2fs takes when it is told nothing (mke2fs.conf(5)).
const USUAL_BYTES_PER_INODE: u64 = 16384;
/// More inodes than the golden node uses, for a clone on a much smaller disk: an eighth.
const SPARE_INODES_SHARE: u64 = 8;

/// Options for the golden features; the type, label, UUID and device are the caller's.
pub(super) fn options(
    fs: &FsSpec,
    golden: &ExtFeatures,
    target: &Target,
    version: ToolVersion,
) -> Vec<String> {
    let mut args = Vec::new();
    // A file system cannot have blocks smaller than the sectors below it: 1 KiB blocks stay on 512-byte disks.
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

/// Arguments for a tune2fs(8) run after mke2fs, where the golden super block has unusual mount options.
pub(super) fn unusual_mount_options(golden: &ExtFeatures) -> Option<String> {
    let known = golden.default_mount_options.iter();
    let unusual: Vec<&str> = known
        .map(String::as_str)
        .filter(|option| !USUAL_MOUNT_OPTIONS.contains(option))
        .collect();
    (!unusual.is_empty()).then(|| unusual.join(","))
}

/// `none` first: exactly the golden features, nothing of this mke2fs.conf's own. A golden kernel or boot loader
/// need not know what a newer mke2fs makes by itself (GRUB 2.06 stops at `metadata_csum_seed`).
fn feature_list(golden: &ExtFeatures, version: ToolVersion) -> String {
    let known = |name: &&String| {
        FEATURES
            .iter()
            .any(|(feature, since)| feature == name && version >= *since)
    };
    let kept = golden.features.iter().filter(known).map(String::as_str);
    std::iter::once("none").chain(kept).collect::<Vec<_>>().join(",")
}

/// Options where mke2fs's own defaults hold, so that all files of the golden node get an inode.
pub(super) fn default_options(fs: &FsSpec, target: &Target) -> Vec<String> {
    let wanted = wanted_inodes(fs);
    if target.len_bytes / USUAL_BYTES_PER_INODE >= wanted {
        return Vec::new();
    }
    vec!["-N".to_owned(), wanted.to_string()]
}

/// The inodes that a clone of this file system needs.
pub(crate) fn wanted_inodes(fs: &FsSpec) -> u64 {
    fs.used_inodes + fs.used_inodes / SPARE_INODES_SHARE + 64
}
