//! Features of a golden file system that the clone's is to share.

use serde::{Deserialize, Serialize};

/// The features of a file system, by type.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FsFeatures {
    /// The defaults of the tool: the desc file changed the type, or the golden file system tells nothing that
    /// matters.
    #[default]
    Default,
    /// Features of ext2, ext3 or ext4.
    Ext(ExtFeatures),
    /// Features of an XFS.
    Xfs(XfsFeatures),
    /// Features of a btrfs.
    Btrfs(BtrfsFeatures),
    /// Features of a FAT.
    Fat(FatFeatures),
    /// Features of an F2FS.
    F2fs(F2fsFeatures),
}

/// Features of an ext2, ext3 or ext4, as `dumpe2fs -h` prints them.
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

/// Features of an XFS, as `xfs_info` prints them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct XfsFeatures {
    /// Block size in bytes.
    pub block_size: u32,
    /// Inode size in bytes.
    pub inode_size: u32,
    /// Every feature that `xfs_info` prints with 0 or 1, by its name there: `crc`, `sparse`, `nrext64`,
    /// `ftype`.
    pub flags: Vec<(String, bool)>,
    /// True if names that differ in case only are the same (`ascii-ci`).
    pub case_insensitive: bool,
}

/// Features of a btrfs file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BtrfsFeatures {
    /// Size of a metadata node in bytes.
    pub node_size: u32,
    /// The subvolumes that are mounted and those that contain them, as paths from the top level without a
    /// leading slash, parents first. Others travel with the tree of the mount that shows them.
    pub subvolumes: Vec<String>,
    /// Path of the default subvolume, if it is not the top level.
    pub default_subvolume: Option<String>,
}

/// Features of a FAT file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FatFeatures {
    /// Width of a FAT entry in bits: 12, 16 or 32.
    pub fat_bits: u8,
}

/// Features of an F2FS file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct F2fsFeatures {
    /// Names as mkfs.f2fs(8) `-O` takes them.
    pub features: Vec<String>,
}
