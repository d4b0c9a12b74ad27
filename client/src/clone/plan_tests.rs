//! Plans from a specification, without a disk.

use std::path::{Path, PathBuf};

use ka_disk::contents::Contents;
use ka_disk::desc::Desc;
use ka_disk::fs::ToolVersions;
use ka_disk::fs_type::FsType;
use ka_disk::inventory::{Choice, Disk};
use ka_disk::layout::Source;
use ka_disk::spec::{
    BootSpec, DriveSpec, FsSpec, InstallSpec, MountSpec, Place, ReadBackWhen, SPEC_VERSION, StreamKind,
    StreamPlan, SwapFileSpec, TreeSpec,
};
use ka_disk::table::TableKind;
use ka_report::report::NodePlan;

use super::ClonePlan;

const MIB: u64 = 1 << 20;

fn spec() -> InstallSpec {
    let desc = Desc::parse("swap 64\nlinux fill\n", "desc").unwrap();
    InstallSpec {
        version: SPEC_VERSION,
        golden_host: "golden".into(),
        drives: vec![DriveSpec {
            name: "sda".into(),
            source: Source::Desc(desc),
            golden_table: TableKind::Mbr,
            golden_bytes: 1024 * MIB,
            golden_sector_size: 512,
            boot_code: Some(vec![0xEB; 446]),
        }],
        filesystems: vec![
            file_system(0, 1, FsType::Swap, None),
            file_system(1, 2, FsType::Ext4, Some("/")),
        ],
        trees: vec![TreeSpec {
            id: 0,
            path: "/".into(),
            filesystem: 1,
            used_bytes: 20 * MIB,
        }],
        swap_files: vec![SwapFileSpec {
            path: "/swapfile".into(),
            size_bytes: 8 * MIB,
            mode: 0o600,
        }],
        raw: vec![],
        known: vec![],
        excluded: vec![b"/tmp".to_vec()],
        skipped: vec![],
        keep_uuids: false,
        boot: BootSpec::default(),
        verify: ReadBackWhen::default(),
        streams: vec![StreamPlan {
            name: "kainstall2".into(),
            kind: StreamKind::Tree,
        }],
        notes: vec!["sdb stays at home".into()],
    }
}

fn file_system(id: u32, partition: u32, fstype: FsType, mount: Option<&str>) -> FsSpec {
    let mounts = mount.map(|path| MountSpec {
        path: path.into(),
        options: "defaults".into(),
        options_changed: false,
        subvol: None,
        mode: 0o755,
        uid: 0,
        gid: 0,
    });
    let place = Place {
        drive: "sda".into(),
        partition,
    };
    FsSpec {
        used_bytes: if mount.is_some() { 20 * MIB } else { 0 },
        used_inodes: 100,
        mounts: mounts.into_iter().collect(),
        ..FsSpec::new(id, place, fstype)
    }
}

fn choice(bytes: u64, sector_size: u32) -> Vec<Choice> {
    let disk = Disk {
        name: "nvme0n1".into(),
        path: PathBuf::from("/dev/nvme0n1"),
        bytes,
        sector_size,
        model: "Fast".into(),
        serial: "S1".into(),
        wwid: String::new(),
        numbers: (259, 0),
        seq: None,
        by_path: Vec::new(),
        removable: false,
        named_only: false,
        in_use: None,
        contents: Contents::default(),
    };
    vec![Choice {
        drive: "sda".into(),
        disk,
    }]
}

fn plan(spec: InstallSpec, bytes: u64) -> anyhow::Result<ClonePlan> {
    ClonePlan::new(
        spec,
        choice(bytes, 4096),
        Path::new("/mnt/disk"),
        &ToolVersions::NEWEST,
    )
}

#[test]
fn golden_partitions_become_those_of_the_chosen_disk() {
    let plan = plan(spec(), 512 * MIB).unwrap();
    let devices: Vec<_> = plan
        .filesystems
        .iter()
        .map(|fs| fs.device.to_str().unwrap())
        .collect();
    assert_eq!(devices, ["/dev/nvme0n1p1", "/dev/nvme0n1p2"]);
    assert!(
        plan.filesystems[1].runs[0]
            .argv
            .contains(&"/dev/nvme0n1p2".to_owned())
    );
    assert_eq!(plan.disks[0].boot_code, Some([0xEB; 446]));
}

#[test]
fn the_plan_json_names_disks_and_actions_in_order() {
    let summary = plan(spec(), 512 * MIB).unwrap().summary();
    let back = NodePlan::decode(&summary.encode()).unwrap();
    assert_eq!(back, summary);
    assert_eq!(back.disks[0].device, "/dev/nvme0n1");
    assert_eq!(
        (back.disks[0].disk_bytes, back.disks[0].sector_size_bytes),
        (512 * MIB, 4096)
    );
    assert_eq!(back.disks[0].identity, "Fast S1");
    assert!(back.warnings.is_empty(), "the server shows its own notes itself");
    let position = |text: &str| {
        back.actions
            .iter()
            .position(|action| action.contains(text))
            .unwrap()
    };
    let order = [
        "erase",
        "make 2 partitions",
        "mkswap",
        "mke2fs",
        "restore /",
        "/swapfile",
        "partition table",
    ];
    assert!(
        order.windows(2).all(|pair| position(pair[0]) < position(pair[1])),
        "{:?}",
        back.actions
    );
}

#[test]
fn what_does_not_fit_is_refused_before_anything_else_happens() {
    let mut large = spec();
    large.filesystems[1].used_bytes = 600 * MIB;
    let error = format!("{:#}", plan(large, 512 * MIB).unwrap_err());
    assert!(
        error.contains("/dev/nvme0n1") && error.contains("sda2"),
        "{error}"
    );
    assert!(plan(spec(), 32 * MIB).is_err());
}

#[test]
fn paths_that_lead_out_of_the_mount_directory_are_refused() {
    for bad in ["/../etc", "etc", "/a/./../b", "", "/x/../../y"] {
        let mut hostile = spec();
        hostile.swap_files[0].path = bad.into();
        assert!(plan(hostile, 512 * MIB).is_err(), "swap file {bad:?}");
        let mut hostile = spec();
        hostile.trees[0].path = bad.into();
        assert!(plan(hostile, 512 * MIB).is_err(), "tree {bad:?}");
        let mut hostile = spec();
        hostile.filesystems[1].mounts[0].path = bad.into();
        assert!(plan(hostile, 512 * MIB).is_err(), "mount {bad:?}");
    }
}

#[test]
fn a_specification_that_contradicts_itself_is_refused() {
    let mut twice = spec();
    twice.filesystems[1].id = 0;
    assert!(plan(twice, 512 * MIB).is_err());
    let mut nowhere = spec();
    nowhere.streams.push(StreamPlan {
        name: "kainstall3".into(),
        kind: StreamKind::Raw { index: 0 },
    });
    assert!(plan(nowhere, 512 * MIB).is_err());
    let mut short_code = spec();
    short_code.drives[0].boot_code = Some(vec![0; 445]);
    assert!(plan(short_code, 512 * MIB).is_err());
}
