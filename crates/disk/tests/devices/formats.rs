//! Every file system type, made by its real tool and then probed by blkid.

use ka_disk::fs::{self, Target, ToolVersions};
use ka_disk::fs_type::FsType;
use ka_disk::spec::{ExtFeatures, FatFeatures, FsFeatures, FsSpec, Place, XfsFeatures};
use ka_host::block;
use ka_lab::disk::{Disk, MIB};

use crate::golden_disk::{blkid, tool};

fn spec(fstype: FsType) -> FsSpec {
    let place = Place {
        drive: "sda".to_owned(),
        partition: 1,
    };
    FsSpec {
        label: Some("KA TEST".to_owned()),
        ..FsSpec::new(0, place, fstype)
    }
}

fn make(fs: &FsSpec, disk: &Disk, mib: u64, sector_size: u32) {
    let target = Target {
        device: disk.checked().unwrap().to_owned(),
        len_bytes: mib * MIB,
        sector_size,
    };
    for run in fs::mkfs_plan(fs, &target, &ToolVersions::detect()).unwrap() {
        run.run().unwrap();
    }
}

/// Each file system has a UUID of its own: mkfs.btrfs refuses one that it sees on any other device, and a disk of
/// this test stays for as long as another program looks at it.
#[test]
fn every_type_is_made_at_both_sector_sizes_with_its_label_and_uuid() {
    for (number, fstype) in (0..).zip(FsType::ALL) {
        for sector_size in [512, 4096] {
            let disk = Disk::scratch(400 * MIB, sector_size).unwrap();
            let mut fs = spec(fstype);
            let uuid = match fstype {
                FsType::Vfat => "973A-AFD3".to_owned(),
                _ => format!("2939ee9b-5126-4160-{number:04x}-{sector_size:012x}"),
            };
            fs.uuid = Some(uuid.clone());
            make(&fs, &disk, 400, sector_size);
            let found = fs::probe(disk.device()).unwrap();
            let seen = (
                found.fstype.as_deref(),
                found.label.as_deref(),
                found.uuid.as_deref(),
            );
            assert_eq!(
                seen,
                (Some(fstype.name()), Some("KA TEST"), Some(uuid.as_str())),
                "{sector_size}"
            );
        }
    }
}

#[test]
fn every_type_goes_over_an_older_one_without_a_question() {
    let disk = Disk::scratch(400 * MIB, 512).unwrap();
    for fstype in FsType::ALL {
        make(&spec(fstype), &disk, 400, 512);
        assert_eq!(blkid(disk.device(), "TYPE"), fstype.name());
    }
}

#[test]
fn the_smallest_partition_we_allow_is_large_enough_for_the_tool() {
    for fstype in FsType::ALL {
        let bytes = fstype.minimum_bytes().next_multiple_of(4096);
        let disk = Disk::scratch(bytes, 512).unwrap();
        let target = Target {
            device: disk.checked().unwrap().to_owned(),
            len_bytes: bytes,
            sector_size: 512,
        };
        for run in fs::mkfs_plan(&spec(fstype), &target, &ToolVersions::detect()).unwrap() {
            run.run()
                .unwrap_or_else(|error| panic!("{fstype} on {bytes} bytes: {error}"));
        }
    }
}

#[test]
fn uuids_are_new_unless_they_are_kept() {
    let disk = Disk::scratch(64 * MIB, 512).unwrap();
    make(&spec(FsType::Ext4), &disk, 64, 512);
    let first = blkid(disk.device(), "UUID");
    make(&spec(FsType::Ext4), &disk, 64, 512);
    assert_ne!(first, blkid(disk.device(), "UUID"));
}

#[test]
fn an_ext3_has_exactly_the_golden_features() {
    let mut fs = spec(FsType::Ext3);
    let names = [
        "has_journal",
        "ext_attr",
        "resize_inode",
        "dir_index",
        "filetype",
        "sparse_super",
        "large_file",
    ];
    fs.features = FsFeatures::Ext(ExtFeatures {
        features: names.map(str::to_owned).to_vec(),
        block_size: 1024,
        inode_size: 128,
        bytes_per_inode: 8192,
        reserved_hundredths: 250,
        default_mount_options: vec!["journal_data_writeback".to_owned()],
    });
    let disk = Disk::scratch(64 * MIB, 512).unwrap();
    make(&fs, &disk, 64, 512);
    let text = tool("dumpe2fs", &["-h"], disk.device());
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once(':').unwrap().1.trim().to_owned()
    };
    let mut features: Vec<String> = field("Filesystem features")
        .split(' ')
        .map(str::to_owned)
        .collect();
    features.sort();
    let mut wanted = names.to_vec();
    wanted.sort_unstable();
    assert_eq!(features, wanted);
    assert_eq!(
        (field("Block size").as_str(), field("Inode size").as_str()),
        ("1024", "128")
    );
    assert_eq!(field("Inode count"), "8192");
    assert!(field("Default mount options").contains("journal_data_writeback"));
    let reserved: u64 = field("Reserved block count").parse().unwrap();
    assert_eq!(reserved, 65536 * 250 / 10_000);
}

#[test]
fn an_old_xfs_stays_an_old_xfs() {
    let mut fs = spec(FsType::Xfs);
    let flags = [
        ("crc", true),
        ("finobt", false),
        ("rmapbt", false),
        ("reflink", false),
        ("bigtime", false),
    ];
    let flags = flags.iter().chain(&[("inobtcount", false), ("ftype", true)]);
    let flags = flags.map(|(name, on)| ((*name).to_owned(), *on)).collect();
    fs.features = FsFeatures::Xfs(XfsFeatures {
        case_insensitive: false,
        block_size: 1024,
        inode_size: 512,
        flags,
    });
    for (sector_size, block_size) in [(512, "bsize=1024"), (4096, "bsize=4096")] {
        let disk = Disk::scratch(400 * MIB, sector_size).unwrap();
        make(&fs, &disk, 400, sector_size);
        let text = tool("xfs_db", &["-r", "-c", "info"], disk.device());
        for setting in ["reflink=0", "bigtime=0", "finobt=0", "crc=1", block_size] {
            assert!(text.contains(setting), "{setting}: {text}");
        }
    }
}

#[test]
fn the_width_of_a_fat_is_kept() {
    for (bits, mib) in [(32, 100), (16, 100), (12, 8)] {
        let mut fs = spec(FsType::Vfat);
        fs.features = FsFeatures::Fat(FatFeatures { fat_bits: bits });
        let disk = Disk::scratch(mib * MIB, 512).unwrap();
        make(&fs, &disk, mib, 512);
        assert_eq!(blkid(disk.device(), "VERSION"), format!("FAT{bits}"));
    }
}

#[test]
fn a_failing_tool_is_quoted() {
    let disk = Disk::scratch(64 * MIB, 512).unwrap();
    let _held = block::open_exclusive(disk.checked().unwrap()).unwrap();
    let target = Target {
        device: disk.checked().unwrap().to_owned(),
        len_bytes: 64 * MIB,
        sector_size: 512,
    };
    let runs = fs::mkfs_plan(&spec(FsType::Xfs), &target, &ToolVersions::detect()).unwrap();
    let error = runs[0].run().unwrap_err().to_string();
    assert!(
        error.starts_with(&format!(
            "Formatting {} as xfs: mkfs.xfs failed",
            disk.device().display()
        )),
        "{error}"
    );
}
