//! The file systems that KA makes, and the facts of each.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A file system type, by the name that fstab and blkid use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum FsType {
    Ext2,
    Ext3,
    Ext4,
    Xfs,
    Btrfs,
    Vfat,
    Jfs,
    Reiserfs,
    F2fs,
    Swap,
}

/// A name that is no file system type that KA makes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a file system KA can make; it makes {}", FsType::names())]
pub struct UnknownFsType {
    /// The unknown name, as it was given.
    pub name: String,
}

const MIB: u64 = 1 << 20;

impl FsType {
    /// All types.
    pub const ALL: [Self; 10] = [
        Self::Ext2,
        Self::Ext3,
        Self::Ext4,
        Self::Xfs,
        Self::Btrfs,
        Self::Vfat,
        Self::Jfs,
        Self::Reiserfs,
        Self::F2fs,
        Self::Swap,
    ];

    /// Returns the name in fstab, in `/proc/filesystems` and for mount(2).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Vfat => "vfat",
            Self::Jfs => "jfs",
            Self::Reiserfs => "reiserfs",
            Self::F2fs => "f2fs",
            Self::Swap => "swap",
        }
    }

    /// Returns the program that makes it.
    #[must_use]
    pub fn mkfs_program(self) -> &'static str {
        match self {
            Self::Ext2 | Self::Ext3 | Self::Ext4 => "mke2fs",
            Self::Xfs => "mkfs.xfs",
            Self::Btrfs => "mkfs.btrfs",
            Self::Vfat => "mkfs.vfat",
            Self::Jfs => "mkfs.jfs",
            Self::Reiserfs => "mkfs.reiserfs",
            Self::F2fs => "mkfs.f2fs",
            Self::Swap => "mkswap",
        }
    }

    /// Returns the Debian package with [`FsType::mkfs_program`].
    #[must_use]
    pub fn package(self) -> &'static str {
        match self {
            Self::Ext2 | Self::Ext3 | Self::Ext4 => "e2fsprogs",
            Self::Xfs => "xfsprogs",
            Self::Btrfs => "btrfs-progs",
            Self::Vfat => "dosfstools",
            Self::Jfs => "jfsutils",
            Self::Reiserfs => "reiserfsprogs",
            Self::F2fs => "f2fs-tools",
            Self::Swap => "util-linux",
        }
    }

    /// Returns the longest label in bytes: mke2fs(8) 16, mkfs.xfs(8) 12, mkfs.btrfs(8) 255, mkfs.fat(8) 11,
    /// mkfs.jfs(8) 16, mkfs.reiserfs(8) 16, mkfs.f2fs(8) 512, mkswap(8) 16 with its final NUL.
    #[must_use]
    pub fn max_label_bytes(self) -> usize {
        match self {
            Self::Ext2 | Self::Ext3 | Self::Ext4 | Self::Jfs | Self::Reiserfs => 16,
            Self::Xfs => 12,
            Self::Btrfs => 255,
            Self::Vfat => 11,
            Self::F2fs => 512,
            Self::Swap => 15,
        }
    }

    /// Returns the smallest partition in bytes that its tool accepts with our options.
    ///
    /// Since 5.19 mkfs.xfs refuses less than 300 MB. mkfs.btrfs needs 114 MB for two copies of its metadata,
    /// and reiserfs has a 32 MiB journal.
    #[must_use]
    pub fn minimum_bytes(self) -> u64 {
        match self {
            Self::Ext2 | Self::Ext3 | Self::Ext4 | Self::Vfat => MIB,
            Self::Xfs => 300 * MIB,
            Self::Btrfs => 115 * MIB,
            Self::Jfs => 16 * MIB,
            Self::Reiserfs => 34 * MIB,
            Self::F2fs => 52 * MIB,
            Self::Swap => 40 << 10,
        }
    }

    /// True if it holds files, so that it can be mounted.
    #[must_use]
    pub fn is_mountable(self) -> bool {
        self != Self::Swap
    }

    fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl fmt::Display for FsType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FsType {
    type Err = UnknownFsType;

    fn from_str(name: &str) -> Result<Self, UnknownFsType> {
        // `msdos` and `fat` are the same bytes on disk with another name in old fstabs.
        let plain = if matches!(name, "fat" | "fat32" | "msdos") {
            "vfat"
        } else {
            name
        };
        let found = Self::ALL.into_iter().find(|fs| fs.name() == plain);
        found.ok_or_else(|| UnknownFsType {
            name: name.to_owned(),
        })
    }
}
