//! From a survey to mounted file systems on another disk, as a node does it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ka_disk::desc::Desc;
use ka_disk::fs::{Target, ToolVersions, check_node, mkfs_plan};
use ka_disk::golden::{DeviceName, SurveyOptions, survey};
use ka_disk::inventory::{Wishes, choose, disks};
use ka_disk::layout;
use ka_disk::mounts;
use ka_disk::spec::{FsFeatures, InstallSpec};
use ka_host::{blkpg, mountinfo};
use ka_lab::disk::{Disk, MIB};
use ka_lab::scratch::Scratch;

use crate::golden_disk::{Golden, TestDisk, add_partitions, blkid, tool};

/// Partitions the device, makes its file systems and plans the mounts, for the spec's only drive.
fn build(spec: &InstallSpec, node_disk: &Disk) -> mounts::MountPlan {
    check_node(spec).unwrap();
    let wishes = Wishes {
        disks: vec![(
            spec.drives[0].name.clone(),
            node_disk.device().display().to_string(),
        )],
        ..Wishes::default()
    };
    let choices = choose(spec, &disks(&[node_disk.name()]).unwrap(), &wishes).unwrap();
    let disk = &choices[0].disk;
    let drive = &spec.drives[0];
    let mut fresh = uuid::Uuid::new_v4;
    let plan = layout::plan(
        &drive.source,
        &disk.geometry(),
        drive.golden_table,
        false,
        &mut fresh,
    )
    .unwrap();
    let file = node_disk.open().unwrap();
    plan.wipe(&file).unwrap();
    add_partitions(&file, &plan);
    let tools = ToolVersions::detect();
    let mut devices: Vec<(u32, PathBuf)> = Vec::new();
    for fs in &spec.filesystems {
        let device = blkpg::node_of(node_disk.device(), fs.place.partition).unwrap();
        let len_bytes = plan.find(fs.place.partition).unwrap().len_bytes;
        let target = Target {
            device: device.clone(),
            len_bytes,
            sector_size: disk.sector_size,
        };
        for run in mkfs_plan(fs, &target, &tools).unwrap() {
            run.run().unwrap();
        }
        devices.push((fs.id, device));
    }
    mounts::plan(spec, &devices).unwrap()
}

fn mounted_below(target: &Path) -> usize {
    mountinfo::read()
        .unwrap()
        .iter()
        .filter(|mount| mount.mount_point.starts_with(target))
        .count()
}

fn btrfs_golden() -> (TestDisk, Golden) {
    let disk = TestDisk::new(600, 512, "linux 100\nlinux fill\n");
    tool("mkfs.ext4", &["-q", "-F"], &disk.partition(1));
    let btrfs = disk.partition(2);
    tool("mkfs.btrfs", &["-q", "-f", "-L", "pool"], &btrfs);
    let mut top = Golden::new();
    top.mount(&btrfs, "/", "btrfs", "");
    tool("btrfs", &["subvolume", "create"], &top.path().join("@"));
    tool("btrfs", &["subvolume", "create"], &top.path().join("@home"));
    fs::create_dir(top.path().join("more")).unwrap();
    tool("btrfs", &["subvolume", "create"], &top.path().join("more/@srv"));
    tool("btrfs", &["subvolume", "set-default"], &top.path().join("@"));
    drop(top);
    let mut golden = Golden::new();
    golden.mount(&btrfs, "/", "btrfs", "compress=zstd:1");
    golden.mount(&disk.partition(1), "/boot", "ext4", "");
    golden.mount(&btrfs, "/home", "btrfs", "subvol=@home");
    golden.mount(&btrfs, "/srv", "btrfs", "subvol=more/@srv");
    let uuid = blkid(&btrfs, "UUID");
    let id = tool(
        "btrfs",
        &["inspect-internal", "rootid"],
        &golden.path().join("srv"),
    );
    golden.fstab(&format!(
        "UUID={uuid} / btrfs compress=zstd:1 0 0\nUUID={} /boot ext4 ro 0 2\n\
         UUID={uuid} /home btrfs subvol=@home 0 0\nUUID={uuid} /srv btrfs noatime,subvolid={} 0 0\n",
        blkid(&disk.partition(1), "UUID"),
        id.trim()
    ));
    fs::set_permissions(
        golden.path().join("srv"),
        std::os::unix::fs::PermissionsExt::from_mode(0o2750),
    )
    .unwrap();
    std::os::unix::fs::chown(golden.path().join("srv"), Some(33), Some(34)).unwrap();
    (disk, golden)
}

#[test]
fn a_btrfs_with_subvolumes_is_made_again_and_mounted_alike() {
    let (_disk, golden) = btrfs_golden();
    let spec = survey(&SurveyOptions {
        root: golden.path().to_owned(),
        ..SurveyOptions::default()
    })
    .unwrap();
    let btrfs = spec.filesystems.iter().find(|fs| fs.mounts.len() == 3).unwrap();
    let FsFeatures::Btrfs(features) = &btrfs.features else {
        panic!()
    };
    assert_eq!(features.subvolumes, ["@", "@home", "more/@srv"]);
    assert_eq!(features.default_subvolume.as_deref(), Some("@"));
    let srv = btrfs.mounts.iter().find(|mount| mount.path == "/srv").unwrap();
    assert_eq!(
        (srv.options.as_str(), srv.options_changed),
        ("noatime,subvol=/more/@srv", true)
    );

    let node_disk = Disk::scratch(700 * MIB, 4096).unwrap();
    let plan = build(&spec, &node_disk);
    let dir = Scratch::new("mount").unwrap();
    let tree = plan.mount_all(dir.path()).unwrap();
    let seen = |at: &str| {
        let path = tree.target().join(at.trim_start_matches('/'));
        let mounts = mountinfo::read().unwrap();
        mountinfo::find_at(&mounts, &path).map(|mount| mount.root.display().to_string())
    };
    assert_eq!(seen("").as_deref(), Some("/@"));
    assert_eq!(seen("/home").as_deref(), Some("/@home"));
    assert_eq!(seen("/srv").as_deref(), Some("/more/@srv"));
    assert_eq!(seen("/boot").as_deref(), Some("/"));
    let meta = fs::metadata(tree.target().join("srv")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o2750, 33, 34));
    fs::write(tree.target().join("boot/writable"), "although fstab says ro").unwrap();
    let default = tool("btrfs", &["subvolume", "get-default"], tree.target());
    assert!(default.trim().ends_with("path @"), "{default}");
    tree.unmount().unwrap();
    assert_eq!(mounted_below(dir.path()), 0);
}

#[test]
fn everything_is_unmounted_after_an_error_half_way() {
    let (_disk, golden) = btrfs_golden();
    let spec = survey(&SurveyOptions {
        root: golden.path().to_owned(),
        ..SurveyOptions::default()
    })
    .unwrap();
    let node_disk = Disk::scratch(700 * MIB, 512).unwrap();
    let mut plan = build(&spec, &node_disk);
    if let Some(mounts::MountStep::Mount { device, .. }) = plan.steps.last_mut() {
        *device = PathBuf::from("/dev/ka-no-such-device");
    }
    let dir = Scratch::new("mount").unwrap();
    let error = plan.mount_all(dir.path()).unwrap_err().to_string();
    assert!(
        error.starts_with("mounting /dev/ka-no-such-device on "),
        "{error}"
    );
    assert_eq!(mounted_below(dir.path()), 0);
}

#[test]
fn a_mount_directory_in_use_is_refused() {
    let mut golden = Golden::new();
    golden.mount(Path::new("tmpfs"), "/", "tmpfs", "size=1M");
    let error = mounts::MountPlan::default()
        .mount_all(golden.path())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("is a mount point already") && error.contains("--mount-dir"),
        "{error}"
    );
}

#[test]
fn a_clone_of_another_type_size_and_sector_size_surveys_like_its_golden_node() {
    let disk = TestDisk::new(
        2048,
        512,
        "swap 64\nlinux 800\nextended fill\nlogical linux fill\n",
    );
    tool("mkswap", &["-q"], &disk.partition(1));
    tool(
        "mkfs.ext4",
        &["-q", "-F", "-L", "root", "-b", "1024", "-I", "256"],
        &disk.partition(2),
    );
    tool("mkfs.ext3", &["-q", "-F", "-L", "home"], &disk.partition(5));
    let mut golden = Golden::new();
    golden.mount(&disk.partition(2), "/", "ext4", "");
    golden.mount(&disk.partition(5), "/home", "ext3", "");
    golden.fstab("LABEL=root / ext4 defaults 0 1\nLABEL=home /home ext3 defaults 0 2\n");
    let desc = "table gpt\nswap 64\nlinux 400\nlinux fill mount=/home fs=xfs\n";
    let drive = DeviceName::parse("-p", &disk.name()).unwrap();
    let drives = [(drive, Desc::parse(desc, "desc").unwrap())].into();
    let spec = survey(&SurveyOptions {
        root: golden.path().to_owned(),
        drives,
        ..SurveyOptions::default()
    })
    .unwrap();
    let node_disk = Disk::scratch(1024 * MIB, 4096).unwrap();
    let plan = build(&spec, &node_disk);
    let root = blkpg::node_of(node_disk.device(), 2).unwrap();
    assert_eq!(
        (
            blkid(&root, "TYPE"),
            blkid(&root, "LABEL"),
            blkid(&root, "BLOCK_SIZE")
        ),
        ("ext4".into(), "root".into(), "4096".into())
    );
    let home = blkpg::node_of(node_disk.device(), 3).unwrap();
    assert_eq!(
        (blkid(&home, "TYPE"), blkid(&home, "LABEL")),
        ("xfs".into(), "home".into())
    );
    assert_eq!(
        blkid(&blkpg::node_of(node_disk.device(), 1).unwrap(), "TYPE"),
        "swap"
    );
    let dir = Scratch::new("mount").unwrap();
    plan.mount_all(dir.path()).unwrap().unmount().unwrap();
}
