//! Programs of stage2: which, from which Debian package, and which of them a clone cannot do without.

/// Directories of programs in a golden root, in the order of search.
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
    /// File systems that need it; none: every node.
    pub(crate) file_systems: &'static [&'static str],
    /// The Debian package.
    pub(crate) package: &'static str,
    /// What a clone with such a file system cannot be made without.
    pub(crate) required: &'static [&'static str],
    /// What is useful in a shell.
    pub(crate) optional: &'static [&'static str],
    /// Configuration that the programs read.
    pub(crate) files: &'static [&'static str],
}

/// All of them.
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
    // Not `sort` and the checksums: they bring libcrypto, larger than all others together.
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

/// Libraries that are opened at run time, and by which library: glibc opens `libgcc_s` when a thread is cancelled or
/// ends, and the program dies without it (mkfs.btrfs and xfs_repair have threads).
pub(crate) const OPENED_AT_RUN_TIME: [(&str, &str); 2] = [
    ("libc.so.6", "libgcc_s.so.1"),
    ("libpthread.so.0", "libgcc_s.so.1"),
];
