//! Programs of stage2: their names, their Debian packages, and those that a clone requires.

/// Directories of programs in a golden root, in search order.
pub(crate) const PROGRAM_DIRS: [&str; 6] = [
    "usr/sbin",
    "usr/bin",
    "sbin",
    "bin",
    "usr/local/sbin",
    "usr/local/bin",
];

/// A set of programs for one purpose.
pub(crate) struct ToolSet {
    /// File systems that need the set. Empty if every node needs it.
    pub(crate) file_systems: &'static [&'static str],
    /// Debian package of the programs.
    pub(crate) package: &'static str,
    /// Programs without which such a file system cannot be made.
    pub(crate) required: &'static [&'static str],
    /// Programs that are useful in a shell.
    pub(crate) optional: &'static [&'static str],
    /// Configuration files of the programs.
    pub(crate) files: &'static [&'static str],
}

/// All sets of tools.
pub(crate) const TOOLS: [ToolSet; 11] = [
    ToolSet {
        file_systems: &["ext2", "ext3", "ext4"],
        package: "e2fsprogs",
        required: &["mke2fs"],
        optional: &[
            "mkfs.ext2",
            "mkfs.ext3",
            "mkfs.ext4",
            "e2fsck",
            "fsck.ext2",
            "fsck.ext3",
            "fsck.ext4",
            "tune2fs",
            "dumpe2fs",
            "resize2fs",
            "e2label",
            "chattr",
            "lsattr",
        ],
        files: &["etc/mke2fs.conf"],
    },
    ToolSet {
        file_systems: &["xfs"],
        package: "xfsprogs",
        required: &["mkfs.xfs"],
        optional: &["fsck.xfs", "xfs_repair", "xfs_db", "xfs_admin"],
        files: &[],
    },
    ToolSet {
        file_systems: &["btrfs"],
        package: "btrfs-progs",
        required: &["mkfs.btrfs", "btrfs"],
        optional: &["fsck.btrfs"],
        files: &[],
    },
    ToolSet {
        file_systems: &["vfat", "fat", "msdos"],
        package: "dosfstools",
        required: &["mkfs.vfat"],
        optional: &["mkfs.fat", "fsck.fat", "fsck.vfat", "fatlabel"],
        files: &[],
    },
    ToolSet {
        file_systems: &["f2fs"],
        package: "f2fs-tools",
        required: &["mkfs.f2fs"],
        optional: &["fsck.f2fs"],
        files: &[],
    },
    ToolSet {
        file_systems: &["jfs"],
        package: "jfsutils",
        required: &["mkfs.jfs"],
        optional: &["fsck.jfs", "jfs_tune"],
        files: &[],
    },
    ToolSet {
        file_systems: &["reiserfs"],
        package: "reiserfsprogs",
        required: &["mkfs.reiserfs"],
        optional: &["mkreiserfs", "reiserfsck", "fsck.reiserfs", "reiserfstune"],
        files: &[],
    },
    ToolSet {
        file_systems: &["swap"],
        package: "util-linux",
        required: &["mkswap"],
        optional: &["swaplabel"],
        files: &[],
    },
    ToolSet {
        file_systems: &[],
        package: "util-linux",
        required: &["blkid"],
        optional: &[
            "lsblk", "fsck", "dmesg", "findmnt", "blockdev", "wipefs", "losetup",
        ],
        files: &[],
    },
    ToolSet {
        file_systems: &[],
        package: "dash",
        required: &["sh"],
        optional: &[
            "efibootmgr",
            "mount",
            "umount",
            "ip",
            "ps",
            "kill",
            "free",
            "grep",
            "sed",
        ],
        files: &[],
    },
    // `sort` and the checksum programs are left out: they need libcrypto, which is larger than all others
    // together.
    ToolSet {
        file_systems: &[],
        package: "coreutils",
        required: &[],
        optional: &[
            "cat", "chmod", "chown", "chroot", "cp", "cut", "date", "dd", "df", "du", "echo", "env", "false",
            "head", "ln", "ls", "mkdir", "mknod", "mv", "od", "readlink", "rm", "rmdir", "sleep", "stat",
            "sync", "tail", "tee", "test", "touch", "tr", "true", "uname", "wc",
        ],
        files: &[],
    },
];

/// Pairs of a library and another one that it opens at run time. glibc opens `libgcc_s` when a thread is
/// cancelled or ends, and the program dies without it (mkfs.btrfs and xfs_repair have threads).
pub(crate) const OPENED_AT_RUN_TIME: [(&str, &str); 2] = [
    ("libc.so.6", "libgcc_s.so.1"),
    ("libpthread.so.0", "libgcc_s.so.1"),
];
