//! Tests of desc files against golden mount points, without a device.

use std::path::PathBuf;

use super::*;
use crate::spec::GoldenDevice;

fn mount(mount_point: &str, on: Option<(&str, u32)>, fstype: FsType) -> FoundMount {
    let path = on.map_or("/dev/mapper/vg-x".to_owned(), |(drive, number)| {
        format!("/dev/{drive}{number}")
    });
    FoundMount {
        mount_point: mount_point.to_owned(),
        options: "defaults".to_owned(),
        fstab_options: "defaults".to_owned(),
        golden: GoldenDevice {
            path,
            ..GoldenDevice::default()
        },
        on: on.map(|(drive, number)| (drive.to_owned(), number)),
        device: None,
        fstype,
        source: PathBuf::new(),
        subvol: None,
        mode: 0o755,
        uid: 0,
        gid: 0,
        used_bytes: 0,
        used_inodes: 0,
        block_bytes: 0,
    }
}

fn swap(on: Option<(&str, u32)>) -> FoundSwap {
    FoundSwap {
        golden: GoldenDevice::default(),
        on: on.map(|(drive, number)| (drive.to_owned(), number)),
    }
}

fn descs(text: &str) -> BTreeMap<String, Desc> {
    BTreeMap::from([("sda".to_owned(), Desc::parse(text, "desc").unwrap())])
}

fn place_all(text: &str, mounts: &[FoundMount]) -> Result<Vec<String>, String> {
    let descs = descs(text);
    let mut placer = Placer::new(&descs);
    placer
        .check_mount_lines(mounts)
        .map_err(|error| error.to_string())?;
    let places = mounts
        .iter()
        .map(|mount| placer.mount(mount).map(|place| place.to_string()));
    places
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}

const SEED: &str = "swap 7993\nlinux 29996\nextended fill\nlogical linux fill\n";

#[test]
fn numbers_decide_where_no_line_says_mount() {
    let mounts = [
        mount("/", Some(("sda", 2)), FsType::Ext4),
        mount("/home", Some(("sda", 5)), FsType::Xfs),
    ];
    assert_eq!(place_all(SEED, &mounts).unwrap(), ["sda2", "sda5"]);
}

#[test]
fn drives_without_a_desc_file_keep_everything() {
    let mounts = [
        mount("/", Some(("sda", 2)), FsType::Ext4),
        mount("/data", Some(("sdb", 9)), FsType::Xfs),
    ];
    assert_eq!(place_all(SEED, &mounts).unwrap(), ["sda2", "sdb9"]);
}

#[test]
fn lvm_goes_where_mount_says() {
    let mounts = [mount("/", None, FsType::Ext4), mount("/home", None, FsType::Xfs)];
    let text = "linux 512\nlinux 1000 mount=/\nlinux fill mount=/home fs=ext4\n";
    assert_eq!(place_all(text, &mounts).unwrap(), ["sda2", "sda3"]);
}

#[test]
fn without_a_mount_line_the_error_names_the_mount_point_and_what_to_write() {
    let error = place_all(SEED, &[mount("/home", None, FsType::Ext4)]).unwrap_err();
    assert_eq!(
        error,
        "/home (/dev/mapper/vg-x) has no place in the clone: it is on no plain partition of the golden node: give it a \
         desc line (-p DRIVE DESC) with mount=/home"
    );
}

#[test]
fn a_number_that_the_desc_file_lacks_is_named() {
    let error = place_all("linux fill\n", &[mount("/", Some(("sda", 2)), FsType::Ext4)]).unwrap_err();
    assert!(
        error.contains("desc has no partition 2: add a line for it"),
        "{error}"
    );
}

#[test]
fn a_mount_line_takes_the_number_from_its_golden_owner() {
    let mounts = [
        mount("/", Some(("sda", 1)), FsType::Ext4),
        mount("/home", None, FsType::Ext4),
    ];
    let error = place_all("linux fill mount=/home\n", &mounts).unwrap_err();
    assert!(error.contains("desc:1 gives partition 1 to /home"), "{error}");
}

#[test]
fn a_mount_line_for_nothing_is_refused_with_the_known_mount_points() {
    let mounts = [mount("/", Some(("sda", 1)), FsType::Ext4)];
    let error = place_all("linux 100\nlinux fill mount=/hme\n", &mounts).unwrap_err();
    assert!(
        error.starts_with("desc:2: mount=/hme: the golden node mounts nothing there"),
        "{error}"
    );
}

#[test]
fn a_root_on_a_swap_line_is_refused() {
    let error = place_all(
        "swap 100\nlinux fill\n",
        &[mount("/", Some(("sda", 1)), FsType::Ext4)],
    )
    .unwrap_err();
    assert!(error.starts_with("desc:1: this line is swap"), "{error}");
}

#[test]
fn subvolumes_share_a_partition_only_as_btrfs() {
    let mounts = [
        mount("/", Some(("sda", 1)), FsType::Btrfs),
        mount("/home", Some(("sda", 1)), FsType::Btrfs),
    ];
    assert_eq!(place_all("linux fill\n", &mounts).unwrap(), ["sda1", "sda1"]);
    let error = place_all("linux fill fs=ext4\n", &mounts).unwrap_err();
    assert!(error.contains("sda1 is taken by / (/dev/sda1)"), "{error}");
}

#[test]
fn swap_takes_its_own_number_then_any_free_swap_line() {
    let descs = descs("linux 100\nswap 100\nswap 100\n");
    let mut placer = Placer::new(&descs);
    assert_eq!(
        placer.swap(&swap(Some(("sda", 3)))).unwrap().unwrap().partition,
        3
    );
    assert_eq!(placer.swap(&swap(None)).unwrap().unwrap().partition, 2);
    assert_eq!(placer.swap(&swap(None)).unwrap(), None);
    assert!(placer.extras().is_empty());
}

#[test]
fn lines_of_their_own_are_made_too() {
    let descs = descs("linux 100\nswap 100\nlinux 200 fs=xfs label=scratch\n");
    let placer = Placer::new(&descs);
    let extras: Vec<(u32, FsType)> = placer
        .extras()
        .iter()
        .map(|extra| (extra.place.partition, extra.fstype))
        .collect();
    assert_eq!(extras, [(2, FsType::Swap), (3, FsType::Xfs)]);
}

#[test]
fn a_raw_copy_and_a_tree_do_not_share_a_partition() {
    let descs = descs("linux 100\nlinux fill\n");
    let mut placer = Placer::new(&descs);
    placer.mount(&mount("/", Some(("sda", 2)), FsType::Ext4)).unwrap();
    assert!(placer.raw("sda2", "sda", 2).is_err());
    assert!(placer.raw("sda1", "sda", 1).is_ok());
    let error = placer.raw("sda4", "sda", 4).unwrap_err().to_string();
    assert_eq!(error, "-D sda4: desc has no partition 4 for it: add a line");
}
