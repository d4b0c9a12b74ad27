//! Tests on made-up sysfs trees, and on this machine's own.

use std::fs;

use ka_host::{blkpg, block};
use ka_lab::disk::Disk as LoopDisk;

use super::*;

fn fake(dir: &Path, name: &str, files: &[(&str, &str)]) {
    for (file, text) in files {
        let path = dir.join(name).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn fake_machine() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    fake(
        at,
        "sda",
        &[
            ("size", "1000\n"),
            ("dev", "8:0"),
            ("device/model", "ST1000  \n"),
            ("removable", "0"),
            ("serial", "S1    QM\0 7\n"),
        ],
    );
    fake(
        at,
        "sda/sda1",
        &[("size", "10"), ("dev", "8:1"), ("partition", "1")],
    );
    fake(at, "sda1", &[("size", "10"), ("dev", "8:1"), ("partition", "1")]);
    fake(
        at,
        "sdb",
        &[
            ("size", "2000"),
            ("removable", "1"),
            ("dev", "8:16"),
            ("queue/logical_block_size", "4096\n"),
        ],
    );
    fake(at, "sdc", &[("size", "0"), ("dev", "8:32")]);
    fake(
        at,
        "sdd",
        &[("size", "5"), ("dev", "8:48"), ("holders/md0/x", "")],
    );
    fake(at, "loop3", &[("size", "5"), ("dev", "7:3")]);
    fake(at, "dm-0", &[("size", "5"), ("dev", "253:0")]);
    fake(at, "mmcblk0", &[("size", "5"), ("dev", "179:0")]);
    fake(at, "mmcblk0boot0", &[("size", "5"), ("dev", "179:8")]);
    fake(at, "nvme0c0n1", &[("size", "5"), ("hidden", "1")]);
    dir
}

#[test]
fn disks_are_read_from_sysfs_with_size_model_and_serial() {
    let machine = fake_machine();
    let found = scan(machine.path(), &[], &Users::default()).unwrap();
    let names: Vec<&str> = found.iter().map(|disk| disk.name.as_str()).collect();
    assert_eq!(names, ["mmcblk0", "sda", "sdb", "sdd"]);
    let found = &found[1..];
    assert_eq!(
        (found[0].bytes, found[0].model.as_str(), found[0].serial.as_str()),
        (512_000, "ST1000", "S1 QM 7")
    );
    assert_eq!((found[1].removable, found[1].sector_size), (true, 4096));
    assert_eq!(found[2].in_use.as_deref(), Some("sdd is held by md0"));
}

#[test]
fn made_up_disks_are_listed_only_when_named() {
    let machine = fake_machine();
    let found = scan(machine.path(), &[Named::new("loop3")], &Users::default()).unwrap();
    let loop3 = found.iter().find(|disk| disk.name == "loop3").unwrap();
    assert!(loop3.named_only);
    assert!(!found.iter().any(|disk| disk.name == "dm-0"));
}

#[test]
fn a_mounted_partition_makes_its_disk_used() {
    let machine = fake_machine();
    let users = Users::with((8, 1), "is mounted at /home");
    let found = scan(machine.path(), &[], &users).unwrap();
    assert_eq!(found[1].in_use.as_deref(), Some("sda1 is mounted at /home"));
}

#[test]
fn a_disk_that_another_program_holds_is_in_use() {
    let device = LoopDisk::scratch(8 << 20, 4096).unwrap();
    let named = [device.name()];
    let find = || {
        disks(&named)
            .unwrap()
            .into_iter()
            .find(|disk| disk.name == device.name())
            .unwrap()
    };
    let free = find();
    assert_eq!((free.bytes, free.sector_size, free.in_use), (8 << 20, 4096, None));
    let held = block::open_exclusive(device.checked().unwrap()).unwrap();
    blkpg::add(&held, 1, 1 << 20, 1 << 20).unwrap();
    assert!(find().in_use.unwrap().contains("another program"));
}

#[test]
fn our_own_root_disk_is_in_use() {
    let found = disks(&[]).unwrap();
    let root = found.iter().find(|disk| {
        disk.in_use
            .as_deref()
            .is_some_and(|using| using.contains("mounted at /"))
    });
    assert!(root.is_some(), "{found:?}");
}
