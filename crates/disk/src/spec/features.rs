//! What of a golden file system's make-up the clone's is to share.

use serde::{Deserialize, Serialize};

/// The features of a file system, by type.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FsFeatures {
    /// The tool's own defaults: the desc file changed the type, or the golden one tells nothing that matters.
    #[default]
    Default,
    /// ext2, ext3, ext4.
    Ext(ExtFeatures),
    /// XFS.
    Xfs(XfsFeatures),
    /// Btrfs.
    Btrfs(BtrfsFeatures),
    /// FAT.
    Fat(FatFeatures),
    /// F2FS.
    F2fs(F2fsFeatures),
}

/// As `dumpe2fs -h` tells them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtFeatures {
    /// Names as mke2fs(8) `-O` takes them.
    pub features: Vec<String>,
    /// Block size in bytes.
    pub block_size: u32,
    /// Inode size in bytes.
    pub inode_size: u32,
    /// Bytes of disk for each inode (`-i`).
    pub bytes_per_inode: u64,
    /// Blocks reserved for root, in hundredths of a percent.
    pub reserved_hundredths: u32,
    /// Default mount options in the super block (`user_xattr acl`), as `tune2fs -o` takes them.
    pub default_mount_options: Vec<String>,
}

/// As `xfs_info` tells them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct XfsFeatures {
    /// Block size in bytes.
    pub block_size: u32,
    /// Inode size in bytes.
    pub inode_size: u32,
    /// Every feature that `xfs_info` prints with 0 or 1, by its name there: `crc`, `sparse`, `nrext64`, `ftype`.
    pub flags: Vec<(String, bool)>,
    /// Names that differ in case only are the same (`ascii-ci`).
    #[serde(default)]
    pub case_insensitive: bool,
}

/// Of a btrfs file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BtrfsFeatures {
    /// Size of a metadata node in bytes.
    pub node_size: u32,
    /// The subvolumes that are mounted and those that they lie in, as paths from the top level without a leading slash,
    /// parents first. Others travel with the tree of the mount that shows them.
    pub subvolumes: Vec<String>,
    /// Path of the default subvolume, where it is not the top level.
    pub default_subvolume: Option<String>,
}

/// Of a FAT file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FatFeatures {
    /// Width of a FAT entry in bits: 12, 16 or 32.
    pub fat_bits: u8,
}

/// Of an F2FS file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct F2fsFeatures {
    /// Names as mkfs.f2fs(8) `-O` takes them.
    pub features: Vec<String>,
}
