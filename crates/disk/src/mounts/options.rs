//! Mount options for the time of the restore.

use crate::fs_type::FsType;
use crate::spec::MountSpec;

/// True for options of fstab that change how files are written, and so must hold during the restore. These
/// are compression and copy-on-write of btrfs(5) and F2FS, and everything that maps names and rights of FAT
/// and JFS to those of Linux (mount(8)). All others (`ro`, quotas, journal modes, `nodev`, systemd's options)
/// wait for the first boot.
fn is_kept(fstype: FsType, name: &str) -> bool {
    let kept: &[&str] = match fstype {
        FsType::Btrfs => &["compress", "compress-force", "nodatacow", "nodatasum"],
        FsType::F2fs => &[
            "compress_algorithm",
            "compress_log_size",
            "compress_extension",
            "compress_chksum",
        ],
        FsType::Vfat => &[
            "umask",
            "dmask",
            "fmask",
            "uid",
            "gid",
            "codepage",
            "iocharset",
            "shortname",
            "utf8",
            "quiet",
            "flush",
        ],
        FsType::Jfs => &["iocharset"],
        FsType::Reiserfs => &["user_xattr", "acl", "attrs"],
        FsType::Ext2 | FsType::Ext3 | FsType::Ext4 => &["user_xattr", "acl"],
        FsType::Xfs | FsType::Swap => &[],
    };
    kept.contains(&name)
}

/// Returns the options with which a clone's file system is mounted while it is filled.
pub(super) fn for_restore(fstype: FsType, mount: &MountSpec) -> String {
    let name = |option: &str| option.split('=').next().unwrap_or(option).to_owned();
    let golden = mount
        .options
        .split(',')
        .filter(|option| is_kept(fstype, &name(option)))
        .map(str::to_owned);
    let mut options: Vec<String> = golden.collect();
    // The read-back for the digest must not write.
    options.push("noatime".to_owned());
    if fstype == FsType::Xfs {
        // XFS refuses a second file system with the same UUID (xfs(5)). That happens with --keep-uuids on a
        // node that still has an old clone on another disk, and on a machine that makes several clones.
        options.push("nouuid".to_owned());
    }
    if let Some(subvol) = mount.subvol.as_deref().filter(|_| fstype == FsType::Btrfs) {
        options.push(format!("subvol=/{subvol}"));
    }
    options.join(",")
}
