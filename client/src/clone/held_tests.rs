//! Real disks: loop devices over sparse files.

use std::fs::File;
use std::os::unix::fs::FileExt;

use ka_disk::desc::Desc;
use ka_disk::layout::{self, Geometry, Source};
use ka_disk::table::{self, TableKind};
use ka_host::loopdev::LoopDevice;
use uuid::Uuid;

use super::*;

const DISK_BYTES: u64 = 64 << 20;

fn disk(sector_size: u32) -> LoopDevice {
    LoopDevice::scratch(DISK_BYTES, sector_size).unwrap()
}

fn plan(sector_size: u32) -> PartitionPlan {
    let desc = Desc::parse(
        "linux 8\nextended fill\nlogical linux 8\nlogical linux fill\n",
        "desc",
    )
    .unwrap();
    let geometry = Geometry {
        disk_bytes: DISK_BYTES,
        sector_size,
    };
    layout::plan(
        &Source::Desc(desc),
        &geometry,
        TableKind::Mbr,
        false,
        &mut Uuid::new_v4,
    )
    .unwrap()
}

fn kernel_numbers(device: &LoopDevice) -> Vec<u32> {
    blkpg::list(device.path())
        .unwrap()
        .iter()
        .map(|partition| partition.number)
        .collect()
}

fn table_on(device: &LoopDevice, sector_size: u32) -> Option<table::PartitionTable> {
    let file = File::open(device.path()).unwrap();
    block::flush(&file).unwrap();
    table::read(&file, sector_size).unwrap()
}

#[test]
fn a_run_that_stops_after_partitioning_leaves_no_table_and_no_partitions() {
    for sector_size in [512, 4096] {
        let device = disk(sector_size);
        let mut held = HeldDisk::hold(device.path()).unwrap();
        held.partition(&plan(sector_size)).unwrap();
        assert_eq!(kernel_numbers(&device), [1, 2, 5, 6]);
        assert!(held.node_of(6).unwrap().exists());
        assert_eq!(table_on(&device, sector_size), None);
        drop(held);
        assert_eq!(kernel_numbers(&device), [0_u32; 0]);
        assert_eq!(table_on(&device, sector_size), None);
    }
}

#[test]
fn a_written_table_goes_again_unless_the_run_is_finished() {
    let device = disk(512);
    let mut held = HeldDisk::hold(device.path()).unwrap();
    held.partition(&plan(512)).unwrap();
    held.write_table(None).unwrap();
    held.verify_table().unwrap();
    assert!(table_on(&device, 512).is_some());
    drop(held);
    assert_eq!(table_on(&device, 512), None);
    assert!(kernel_numbers(&device).is_empty());

    let mut held = HeldDisk::hold(device.path()).unwrap();
    let plan = plan(512);
    held.partition(&plan).unwrap();
    held.write_table(Some(&[0xEB; 446])).unwrap();
    held.verify_table().unwrap();
    held.finish();
    drop(held);
    assert_eq!(table_on(&device, 512), Some(plan.table));
    assert_eq!(kernel_numbers(&device), [1, 2, 5, 6]);
    let mut code = [0; 440];
    File::open(device.path())
        .unwrap()
        .read_exact_at(&mut code, 0)
        .unwrap();
    assert_eq!(code, [0xEB; 440]);
}

#[test]
fn old_partitions_are_replaced() {
    let device = disk(512);
    let file = File::options()
        .read(true)
        .write(true)
        .open(device.path())
        .unwrap();
    blkpg::add(&file, 3, 20 << 20, 30 << 20).unwrap();
    drop(file);
    let mut held = HeldDisk::hold(device.path()).unwrap();
    held.partition(&plan(512)).unwrap();
    assert_eq!(kernel_numbers(&device), [1, 2, 5, 6]);
}

#[test]
fn a_disk_that_somebody_uses_is_refused() {
    let device = disk(512);
    let user = block::open_exclusive(device.path()).unwrap();
    let error = HeldDisk::hold(device.path()).unwrap_err().to_string();
    assert!(error.contains("is in use") && error.contains("--disk"), "{error}");
    drop(user);

    let held = HeldDisk::hold(device.path()).unwrap();
    let user = block::open_exclusive(device.path()).unwrap();
    assert!(held.recheck().is_err(), "taken between check and go");
    assert!(!held.is_touched());
    drop(user);
    held.recheck().unwrap();
}

#[test]
fn a_disk_locked_by_another_run_is_refused() {
    let device = disk(512);
    let _other = HeldDisk::hold(device.path()).unwrap();
    let error = HeldDisk::hold(device.path()).unwrap_err().to_string();
    assert!(error.contains("locked by another program"), "{error}");
}

#[test]
fn what_is_no_block_device_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = format!("{:#}", HeldDisk::hold(file.path()).unwrap_err());
    assert!(error.contains("not a block device"), "{error}");
}

#[test]
fn a_boot_loaders_code_is_off_the_disk_until_the_table_is_written_and_there_afterwards() {
    for sector_size in [512, 4096] {
        let device = disk(sector_size);
        let mut held = HeldDisk::hold(device.path()).unwrap();
        let plan = plan(sector_size);
        held.partition(&plan).unwrap();
        assert!(held.withdraw_boot_code(None).is_err());
        held.write_provisional().unwrap();
        assert!(held.withdraw_boot_code(None).is_err(), "no tool has written any");
        let raw = std::fs::OpenOptions::new()
            .write(true)
            .open(device.path())
            .unwrap();
        raw.write_all_at(b"boot.img", 0).unwrap();
        raw.write_all_at(b"core.img", 8192).unwrap();
        raw.sync_all().unwrap();
        held.withdraw_boot_code(None).unwrap();
        let sector = |at: u64| {
            let file = File::open(device.path()).unwrap();
            block::flush(&file).unwrap();
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, at).unwrap();
            bytes
        };
        assert_eq!(sector(0), [0; 8]);
        held.write_table(None).unwrap();
        held.verify_table().unwrap();
        assert_eq!((&sector(0), &sector(8192)), (b"boot.img", b"core.img"));
        raw.write_all_at(b"CORE", 8192).unwrap();
        raw.sync_all().unwrap();
        let error = held.verify_table().unwrap_err().to_string();
        assert!(error.contains("is not what was installed"), "{error}");
        drop(held);
        assert!(table_on(&device, sector_size).is_none());
    }
}

#[test]
fn a_run_that_stops_after_the_boot_loader_leaves_nothing_that_looks_finished() {
    let device = disk(512);
    let mut held = HeldDisk::hold(device.path()).unwrap();
    held.partition(&plan(512)).unwrap();
    held.write_provisional().unwrap();
    assert!(table_on(&device, 512).is_some());
    drop(held);
    assert!(table_on(&device, 512).is_none());
    assert!(kernel_numbers(&device).is_empty());
}
