//! Features of a golden file system, as its own tools print them.
//!
//! A missing tool on the golden node is no error: the clone's file system then gets the defaults of mkfs, and
//! the survey adds a note.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use ka_host::run::{RunError, Tool};

use crate::fs::DeviceIdentity;
use crate::fs_type::FsType;
use crate::spec::{BtrfsFeatures, ExtFeatures, F2fsFeatures, FatFeatures, FsFeatures, XfsFeatures};

/// Time limit of a tool that reads a super block.
pub(super) const TOOL_LIMIT: Duration = Duration::from_secs(60);
/// Settings of xfs_info(8) that may be 0 or 1 and are no features.
const XFS_NUMBERS: [&str; 13] = [
    "isize",
    "agcount",
    "agsize",
    "sectsz",
    "attr",
    "bsize",
    "blocks",
    "version",
    "sunit",
    "swidth",
    "imaxpct",
    "projid32bit",
    "ascii-ci",
];
/// The features of F2FS that a clone takes over; encryption keys and zoned disks are left out.
const F2FS_FEATURES: [&str; 9] = [
    "extra_attr",
    "project_quota",
    "inode_checksum",
    "flexible_inline_xattr",
    "inode_crtime",
    "lost_found",
    "verity",
    "sb_checksum",
    "compression",
];

/// Reads the features of the file system on `device`, mounted at `mount_point`.
pub(super) fn read(
    fstype: FsType,
    device: &Path,
    identity: &DeviceIdentity,
    mount_point: Option<&Path>,
) -> Result<FsFeatures, RunError> {
    match fstype {
        FsType::Ext2 | FsType::Ext3 | FsType::Ext4 => Ok(FsFeatures::Ext(parse_dumpe2fs(&output(
            "dumpe2fs",
            &["-h"],
            device,
        )?))),
        FsType::Xfs => {
            let at = mount_point.unwrap_or(device);
            Ok(FsFeatures::Xfs(parse_xfs_info(&output("xfs_info", &[], at)?)))
        }
        FsType::Btrfs => {
            let text = output("btrfs", &["inspect-internal", "dump-super"], device)?;
            Ok(FsFeatures::Btrfs(BtrfsFeatures {
                node_size: dump_super_number(&text, "nodesize"),
                ..BtrfsFeatures::default()
            }))
        }
        FsType::Vfat => Ok(FsFeatures::Fat(FatFeatures {
            fat_bits: fat_bits(identity),
        })),
        FsType::F2fs => Ok(FsFeatures::F2fs(parse_dump_f2fs(&output(
            "dump.f2fs",
            &[],
            device,
        )?))),
        FsType::Jfs | FsType::Reiserfs | FsType::Swap => Ok(FsFeatures::Default),
    }
}

/// Returns the subvolume that a mount without `subvol=` shows; `None` for the top level.
pub(super) fn default_subvolume(mount_point: &Path) -> Result<Option<String>, RunError> {
    let text = output("btrfs", &["subvolume", "get-default"], mount_point)?;
    Ok(parse_default_subvolume(&text))
}

/// Counts the devices that a btrfs file system lies on.
pub(super) fn btrfs_devices(device: &Path) -> Result<u32, RunError> {
    let text = output("btrfs", &["inspect-internal", "dump-super"], device)?;
    Ok(dump_super_number(&text, "num_devices"))
}

fn output(program: &str, args: &[&str], on: &Path) -> Result<String, RunError> {
    let tool = Tool::new(program).describe(format!("looking at the file system on {}", on.display()));
    Ok(tool.args(args).arg(on).timeout(TOOL_LIMIT).run()?.text())
}

fn parse_dumpe2fs(text: &str) -> ExtFeatures {
    let values: HashMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name, value.trim()))
        .collect();
    let number = |name: &str| {
        values
            .get(name)
            .and_then(|value| value.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let words = |name: &str| -> Vec<String> {
        let text = values.get(name).copied().unwrap_or("");
        text.split_whitespace()
            .filter(|word| !word.starts_with('('))
            .map(str::to_owned)
            .collect()
    };
    let (blocks, block_size) = (number("Block count"), number("Block size"));
    let reserved = (number("Reserved block count") * 10_000 + blocks / 2)
        .checked_div(blocks)
        .unwrap_or(500);
    ExtFeatures {
        features: words("Filesystem features"),
        block_size: u32::try_from(block_size).unwrap_or(4096),
        inode_size: u32::try_from(number("Inode size")).unwrap_or(256).max(128),
        bytes_per_inode: (blocks * block_size)
            .checked_div(number("Inode count"))
            .unwrap_or(16384),
        reserved_hundredths: u32::try_from(reserved.min(5000)).unwrap_or(500),
        default_mount_options: words("Default mount options"),
    }
}

fn parse_xfs_info(text: &str) -> XfsFeatures {
    // Every setting is `name=value`; `bsize` and `sectsz` appear once in each section, data's `bsize` first.
    let settings: Vec<(&str, &str)> = text
        .split([' ', ',', '\n', '\t'])
        .filter_map(|word| word.split_once('='))
        .filter(|(name, _)| !name.is_empty())
        .collect();
    let first = |name: &str| {
        settings
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| *value)
    };
    let number = |name: &str| first(name).and_then(|value| value.parse().ok()).unwrap_or(0);
    // Features are in the sections about metadata and names; the sections below hold sizes, some of which are
    // 0 too.
    let parts = ["meta-data", "naming"].map(|part| section(text, part));
    let features = parts.iter().flat_map(|part| part.split([' ', ',', '\n', '\t']));
    let features = features.filter_map(|word| word.split_once('='));
    let flags = features.filter_map(|(name, value)| match value {
        "0" | "1" if !name.is_empty() && !XFS_NUMBERS.contains(&name) => {
            Some((name.to_owned(), value == "1"))
        }
        _ => None,
    });
    XfsFeatures {
        block_size: number("bsize"),
        inode_size: number("isize"),
        flags: flags.collect(),
        case_insensitive: first("ascii-ci") == Some("1"),
    }
}

/// Returns a section of xfs_info's output: its line, and the lines below it that begin with a blank.
fn section(text: &str, name: &str) -> String {
    let mut lines = text.lines().skip_while(|line| !line.starts_with(name));
    let first = lines.next().unwrap_or_default();
    let more = lines.take_while(|line| line.starts_with([' ', '\t', '=']));
    std::iter::once(first).chain(more).collect::<Vec<_>>().join("\n")
}

fn parse_dump_f2fs(text: &str) -> F2fsFeatures {
    let line = text
        .lines()
        .find_map(|line| line.split_once("superblock features ="))
        .map_or("", |(_, rest)| rest);
    let names = line.split_once(':').map_or("", |(_, names)| names);
    let known = |name: &&str| F2FS_FEATURES.contains(name);
    F2fsFeatures {
        features: names
            .split_whitespace()
            .filter(known)
            .map(str::to_owned)
            .collect(),
    }
}

fn dump_super_number(text: &str, name: &str) -> u32 {
    let mut lines = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let words = lines.find(|words| words.first() == Some(&name));
    words.and_then(|words| words.get(1)?.parse().ok()).unwrap_or(0)
}

fn parse_default_subvolume(text: &str) -> Option<String> {
    // The output is `ID 256 gen 10 top level 5 path @`, or `ID 5 (FS_TREE)`.
    text.trim()
        .split_once(" path ")
        .map(|(_, path)| path.trim_matches('/').to_owned())
}

fn fat_bits(identity: &DeviceIdentity) -> u8 {
    let version = identity.version.as_deref().unwrap_or("");
    version
        .strip_prefix("FAT")
        .and_then(|bits| bits.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dumpe2fs_is_understood() {
        let text = "Filesystem volume name:   <none>\n\
                    Filesystem features:      has_journal ext_attr resize_inode 64bit\n\
                    Default mount options:    user_xattr acl\nInode count:              102400\n\
                    Block count:              409600\nReserved block count:     20480\n\
                    Block size:               1024\nInode size:\t          256\n";
        let found = parse_dumpe2fs(text);
        assert_eq!(
            found.features,
            ["has_journal", "ext_attr", "resize_inode", "64bit"]
        );
        assert_eq!(
            (found.block_size, found.inode_size, found.bytes_per_inode),
            (1024, 256, 4096)
        );
        assert_eq!(found.reserved_hundredths, 500);
        assert_eq!(
            parse_dumpe2fs("Default mount options:    (none)\n").default_mount_options,
            [""; 0]
        );
    }

    #[test]
    fn xfs_info_is_understood() {
        let text = "meta-data=/dev/sda2 isize=512    agcount=4, agsize=25600 blks\n\
                    =          sectsz=512   attr=2, projid32bit=1\n\
                    =          crc=1        finobt=1, sparse=1, rmapbt=0\n\
                    =          reflink=1    bigtime=1 inobtcount=1 nrext64=0\n\
                    data     = bsize=4096   blocks=102400, imaxpct=25\n\
                    naming   =version 2 bsize=8192 ascii-ci=0, ftype=1\n";
        let found = parse_xfs_info(text);
        assert_eq!((found.block_size, found.inode_size), (4096, 512));
        assert!(found.flags.contains(&("rmapbt".to_owned(), false)));
        assert!(found.flags.contains(&("ftype".to_owned(), true)));
        assert!(found.flags.contains(&("sparse".to_owned(), true)));
        assert!(found.flags.contains(&("nrext64".to_owned(), false)));
        assert_eq!(found.flags.len(), 9, "{:?}", found.flags);
        let newer = format!(
            "{}realtime =none extsz=4096 blocks=0, rtextents=0\n",
            text.replace("nrext64=0", "nrext64=1\n  = exchange=1 metadir=0 shiny=1")
        );
        let found = parse_xfs_info(&newer.replace("ftype=1", "ftype=1, parent=1"));
        let on: Vec<_> = found
            .flags
            .iter()
            .filter(|(_, on)| *on)
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(
            on,
            [
                "crc",
                "finobt",
                "sparse",
                "reflink",
                "bigtime",
                "inobtcount",
                "nrext64",
                "exchange",
                "shiny",
                "ftype",
                "parent"
            ]
        );
    }

    #[test]
    fn btrfs_and_f2fs_are_understood() {
        assert_eq!(
            dump_super_number("nodesize\t\t16384\nnum_devices\t\t2\n", "num_devices"),
            2
        );
        assert_eq!(
            parse_default_subvolume("ID 256 gen 10 top level 5 path @/x\n").as_deref(),
            Some("@/x")
        );
        assert_eq!(parse_default_subvolume("ID 5 (FS_TREE)\n"), None);
        let text =
            "Info: superblock features = 8 :  extra_attr encrypt\nInfo: superblock encrypt level = 0\n";
        assert_eq!(parse_dump_f2fs(text).features, ["extra_attr"]);
    }
}
