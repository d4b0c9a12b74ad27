//! Tests of the plans as argument lists; `tests/devices` runs the tools on real devices.

use std::path::PathBuf;

use super::*;
use crate::spec::{BtrfsFeatures, ExtFeatures, Place};

fn spec(fstype: FsType, features: FsFeatures) -> FsSpec {
    let place = Place {
        drive: "sda".to_owned(),
        partition: 2,
    };
    FsSpec {
        features,
        used_inodes: 1000,
        ..FsSpec::new(0, place, fstype)
    }
}

fn target(len_mib: u64, sector_size: u32) -> Target {
    Target {
        device: PathBuf::from("/dev/sda2"),
        len_bytes: len_mib * MIB,
        sector_size,
    }
}

fn line(fs: &FsSpec, target: &Target, tools: &ToolVersions) -> String {
    mkfs_plan(fs, target, tools).unwrap()[0].command_line()
}

fn old_tools() -> ToolVersions {
    ToolVersions {
        mke2fs: ToolVersion(1, 42),
        mkfs_xfs: ToolVersion(4, 3),
    }
}

fn ext4_of_debian() -> ExtFeatures {
    let features = "has_journal ext_attr resize_inode dir_index orphan_file filetype needs_recovery extent 64bit \
                    flex_bg metadata_csum_seed sparse_super large_file huge_file dir_nlink extra_isize metadata_csum mmp";
    ExtFeatures {
        features: features
            .split(' ')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect(),
        block_size: 1024,
        inode_size: 256,
        bytes_per_inode: 16384,
        reserved_hundredths: 150,
        default_mount_options: vec![
            "user_xattr".to_owned(),
            "acl".to_owned(),
            "journal_data".to_owned(),
        ],
    }
}

#[test]
fn ext4_gets_exactly_the_golden_features_that_this_mke2fs_knows() {
    let fs = spec(FsType::Ext4, FsFeatures::Ext(ext4_of_debian()));
    assert_eq!(
        line(&fs, &target(1000, 512), &ToolVersions::NEWEST),
        "mke2fs -q -F -t ext4 -b 1024 -I 256 -i 16384 -m 1.50 -O none,has_journal,ext_attr,resize_inode,dir_index,\
         orphan_file,filetype,extent,64bit,flex_bg,metadata_csum_seed,sparse_super,large_file,huge_file,dir_nlink,\
         extra_isize,metadata_csum /dev/sda2"
    );
    let old = line(&fs, &target(1000, 512), &old_tools());
    assert!(
        !old.contains("orphan_file") && !old.contains("metadata_csum") && old.contains("64bit"),
        "{old}"
    );
}

#[test]
fn small_blocks_grow_on_a_disk_with_4096_byte_sectors() {
    let fs = spec(FsType::Ext4, FsFeatures::Ext(ext4_of_debian()));
    assert!(line(&fs, &target(1000, 4096), &ToolVersions::NEWEST).contains("-b 4096 "));
}

#[test]
fn a_smaller_disk_gets_enough_inodes_for_the_golden_files() {
    let mut fs = spec(FsType::Ext4, FsFeatures::Ext(ext4_of_debian()));
    fs.used_inodes = 100_000;
    let command = line(&fs, &target(256, 512), &ToolVersions::NEWEST);
    assert!(command.contains("-N 112564 "), "{command}");
}

#[test]
fn unusual_default_mount_options_are_set_afterwards() {
    let fs = spec(FsType::Ext4, FsFeatures::Ext(ext4_of_debian()));
    let runs = mkfs_plan(&fs, &target(1000, 512), &ToolVersions::NEWEST).unwrap();
    assert_eq!(runs[1].command_line(), "tune2fs -o journal_data /dev/sda2");
}

#[test]
fn labels_and_kept_uuids_use_each_tools_own_letters() {
    let uuid = "2939ee9b-5126-4160-a0f4-28392436f7e4";
    let expect = [
        (
            FsType::Ext3,
            "mke2fs -q -F -t ext3 -L root -U 2939ee9b-5126-4160-a0f4-28392436f7e4 /dev/sda2",
        ),
        (
            FsType::Xfs,
            "mkfs.xfs -q -f -L root -m uuid=2939ee9b-5126-4160-a0f4-28392436f7e4 /dev/sda2",
        ),
        (
            FsType::Btrfs,
            "mkfs.btrfs -q -f -L root -U 2939ee9b-5126-4160-a0f4-28392436f7e4 /dev/sda2",
        ),
        (
            FsType::Reiserfs,
            "mkfs.reiserfs -q -f -f -l root -u 2939ee9b-5126-4160-a0f4-28392436f7e4 /dev/sda2",
        ),
        (
            FsType::F2fs,
            "mkfs.f2fs -q -f -l root -U 2939ee9b-5126-4160-a0f4-28392436f7e4 /dev/sda2",
        ),
        (
            FsType::Swap,
            "mkswap -f -L root -U 2939ee9b-5126-4160-a0f4-28392436f7e4 /dev/sda2",
        ),
        (FsType::Jfs, "mkfs.jfs -q -L root /dev/sda2"),
    ];
    for (fstype, command) in expect {
        let mut fs = spec(fstype, FsFeatures::Default);
        fs.label = Some("root".to_owned());
        fs.uuid = Some(uuid.to_owned());
        assert_eq!(line(&fs, &target(1000, 512), &ToolVersions::NEWEST), command);
    }
    let mut jfs = spec(FsType::Jfs, FsFeatures::Default);
    jfs.uuid = Some(uuid.to_owned());
    let runs = mkfs_plan(&jfs, &target(1000, 512), &ToolVersions::NEWEST).unwrap();
    assert_eq!(runs[1].argv, ["jfs_tune", "-U", uuid, "/dev/sda2"]);
}

#[test]
fn a_fat_keeps_its_width_only_where_that_is_valid() {
    let mut fs = spec(FsType::Vfat, FsFeatures::Fat(FatFeatures { fat_bits: 32 }));
    fs.uuid = Some("973A-AFD3".to_owned());
    assert_eq!(
        line(&fs, &target(100, 512), &ToolVersions::NEWEST),
        "mkfs.vfat -F 32 -i 973AAFD3 /dev/sda2"
    );
    assert_eq!(
        line(&fs, &target(100, 4096), &ToolVersions::NEWEST),
        "mkfs.vfat -i 973AAFD3 /dev/sda2"
    );
    fs.features = FsFeatures::Fat(FatFeatures { fat_bits: 16 });
    assert_eq!(
        line(&fs, &target(4000, 512), &ToolVersions::NEWEST),
        "mkfs.vfat -i 973AAFD3 /dev/sda2"
    );
}

#[test]
fn xfs_keeps_its_features_as_far_as_the_tool_knows_them() {
    let flags = [
        ("crc", true),
        ("finobt", true),
        ("rmapbt", false),
        ("reflink", true),
        ("bigtime", true),
        ("ftype", true),
    ];
    let flags = flags.map(|(name, on)| (name.to_owned(), on)).to_vec();
    let fs = spec(
        FsType::Xfs,
        FsFeatures::Xfs(XfsFeatures {
            case_insensitive: false,
            block_size: 1024,
            inode_size: 512,
            flags,
        }),
    );
    assert_eq!(
        line(&fs, &target(1000, 512), &ToolVersions::NEWEST),
        "mkfs.xfs -q -f -m crc=1,finobt=1,rmapbt=0,reflink=1,bigtime=1,inobtcount=0,metadir=0 -b size=1024 \
         -i size=512,sparse=0,nrext64=0,exchange=0 -n parent=0 /dev/sda2",
        "what the golden tool does not know is off"
    );
    assert!(line(&fs, &target(1000, 512), &old_tools()).contains("-m crc=1,finobt=1 -b size=1024"));
    let debian_12 = ToolVersions {
        mkfs_xfs: ToolVersion(6, 1),
        ..ToolVersions::NEWEST
    };
    let said = line(&fs, &target(1000, 512), &debian_12);
    assert!(said.contains("bigtime=1,inobtcount=0 -b"), "{said}");
    assert!(
        said.ends_with("-i size=512,sparse=0,nrext64=0 /dev/sda2"),
        "{said}"
    );
    assert!(line(&fs, &target(1000, 4096), &ToolVersions::NEWEST).contains("-b size=4096"));
}

#[test]
fn a_label_that_is_too_long_is_refused_with_the_line_to_write() {
    let mut fs = spec(FsType::Xfs, FsFeatures::Default);
    fs.label = Some("a-long-label-".to_owned());
    let error = mkfs_plan(&fs, &target(1000, 512), &ToolVersions::NEWEST)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "the label `a-long-label-` of sda2 is too long for xfs, which takes 12 bytes: give a shorter one with \
         label= in the desc file"
    );
}

#[test]
fn btrfs_keeps_its_node_size() {
    let features = BtrfsFeatures {
        node_size: 32768,
        ..BtrfsFeatures::default()
    };
    let fs = spec(FsType::Btrfs, FsFeatures::Btrfs(features));
    assert_eq!(
        line(&fs, &target(1000, 512), &ToolVersions::NEWEST),
        "mkfs.btrfs -q -f -n 32768 /dev/sda2"
    );
}
