//! Real disks: loop devices over sparse files.

use std::fs::File;
use std::os::unix::fs::FileExt;

use ka_disk::desc::Desc;
use ka_disk::layout::{self, Geometry, Source};
use ka_disk::table::{self, TableKind};
use ka_lab::disk::Disk as LoopDisk;
use uuid::Uuid;

use super::*;

const DISK_BYTES: u64 = 64 << 20;

fn disk(sector_size: u32) -> LoopDisk {
    LoopDisk::scratch(DISK_BYTES, sector_size).unwrap()
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

fn kernel_numbers(disk: &LoopDisk) -> Vec<u32> {
    blkpg::list(disk.device())
        .unwrap()
        .iter()
        .map(|partition| partition.number)
        .collect()
}

fn table_on(disk: &LoopDisk, sector_size: u32) -> Option<table::PartitionTable> {
    let file = File::open(disk.device()).unwrap();
    block::flush(&file).unwrap();
    table::read(&file, sector_size).unwrap()
}

#[test]
fn a_run_that_stops_after_partitioning_leaves_no_table_and_no_partitions() {
    for sector_size in [512, 4096] {
        let disk = disk(sector_size);
        let mut held = HeldDisk::hold(disk.checked().unwrap()).unwrap();
        held.partition(&plan(sector_size)).unwrap();
        assert_eq!(kernel_numbers(&disk), [1, 2, 5, 6]);
        assert!(held.node_of(6).unwrap().exists());
        assert_eq!(table_on(&disk, sector_size), None);
        drop(held);
        assert_eq!(kernel_numbers(&disk), [0_u32; 0]);
        assert_eq!(table_on(&disk, sector_size), None);
    }
}

#[test]
fn partitions_that_the_kernel_has_lost_are_no_failure() {
    let device = disk(512);
    let mut held = HeldDisk::hold(device.device()).unwrap();
    held.partition(&plan(512)).unwrap();
    blkpg::del_all(&held.file, device.device()).unwrap();
    let left = held.undo();
    assert!(left.is_empty(), "{left:?}");
    // The disk itself is still there, so a failure would have been told.
    assert!(!block::is_gone(&held.file));
}

#[test]
fn a_written_table_goes_again_unless_the_run_is_finished() {
    let disk = disk(512);
    let mut held = HeldDisk::hold(disk.checked().unwrap()).unwrap();
    held.partition(&plan(512)).unwrap();
    held.write_table(None).unwrap();
    held.verify_table().unwrap();
    assert!(table_on(&disk, 512).is_some());
    drop(held);
    assert_eq!(table_on(&disk, 512), None);
    assert!(kernel_numbers(&disk).is_empty());

    let mut held = HeldDisk::hold(disk.checked().unwrap()).unwrap();
    let plan = plan(512);
    held.partition(&plan).unwrap();
    held.write_table(Some(&[0xEB; 446])).unwrap();
    held.verify_table().unwrap();
    held.finish();
    drop(held);
    assert_eq!(table_on(&disk, 512), Some(plan.table));
    assert_eq!(kernel_numbers(&disk), [1, 2, 5, 6]);
    let mut code = [0; 440];
    File::open(disk.device())
        .unwrap()
        .read_exact_at(&mut code, 0)
        .unwrap();
    assert_eq!(code, [0xEB; 440]);
}

#[test]
fn old_partitions_are_replaced() {
    let disk = disk(512);
    let file = disk.open().unwrap();
    blkpg::add(&file, 3, 20 << 20, 30 << 20).unwrap();
    drop(file);
    let mut held = HeldDisk::hold(disk.checked().unwrap()).unwrap();
    held.partition(&plan(512)).unwrap();
    assert_eq!(kernel_numbers(&disk), [1, 2, 5, 6]);
}

#[test]
fn a_disk_that_somebody_uses_is_refused() {
    let disk = disk(512);
    let user = block::open_exclusive(disk.checked().unwrap()).unwrap();
    let error = HeldDisk::hold(disk.checked().unwrap()).unwrap_err().to_string();
    assert!(error.contains("is in use") && error.contains("--disk"), "{error}");
    drop(user);

    let held = HeldDisk::hold(disk.checked().unwrap()).unwrap();
    assert!(
        block::open_exclusive_read_only(disk.device()).is_err(),
        "nobody takes it between check and go"
    );
    held.recheck().unwrap();
    assert!(!held.is_touched());
}

/// Returns a name of our own that can be given to another disk, as the kernel's names are at the next boot.
fn renamed(dir: &Path, disk: &LoopDisk) -> PathBuf {
    let name = dir.join("sda");
    std::fs::remove_file(&name).ok();
    std::os::unix::fs::symlink(disk.device(), &name).unwrap();
    name
}

fn chosen(path: &Path) -> Disk {
    let name = path.display().to_string();
    let disks = ka_disk::inventory::disks(std::slice::from_ref(&name)).unwrap();
    let numbers = ka_disk::inventory::numbers_of(&name).unwrap();
    let disk = disks.into_iter().find(|disk| disk.numbers == numbers).unwrap();
    Disk {
        path: path.to_owned(),
        ..disk
    }
}

#[test]
fn a_name_that_means_another_disk_by_now_is_refused_before_anything_is_written() {
    let (one, other) = (disk(512), disk(512));
    let dir = tempfile::tempdir().unwrap();
    let name = renamed(dir.path(), &one);
    let was_chosen = chosen(&name);
    renamed(dir.path(), &other);
    let error = HeldDisk::hold_chosen(&was_chosen).unwrap_err().to_string();
    assert!(
        error.contains("another disk than the one that was chosen"),
        "{error}"
    );

    renamed(dir.path(), &one);
    let mut held = HeldDisk::hold_chosen(&was_chosen).unwrap();
    renamed(dir.path(), &other);
    let error = held.recheck().unwrap_err().to_string();
    assert!(error.contains("the name of another disk now"), "{error}");
    renamed(dir.path(), &one);
    held.partition(&plan(512)).unwrap();
    let numbers = [1_u32, 2, 5, 6];
    assert_eq!(kernel_numbers(&one), numbers);
    let file = other.open().unwrap();
    blkpg::add(&file, 1, 1 << 20, 8 << 20).unwrap();
    renamed(dir.path(), &other);
    let error = held.node_of(1).unwrap_err().to_string();
    assert!(error.contains("a partition of another disk"), "{error}");
}

#[test]
fn a_disk_locked_by_another_run_is_refused() {
    let disk = disk(512);
    let _other = HeldDisk::hold(disk.checked().unwrap()).unwrap();
    let error = HeldDisk::hold(disk.checked().unwrap()).unwrap_err().to_string();
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
        let disk = disk(sector_size);
        let mut held = HeldDisk::hold(disk.checked().unwrap()).unwrap();
        let plan = plan(sector_size);
        held.partition(&plan).unwrap();
        assert!(held.withdraw_boot_code(None).is_err());
        held.write_provisional().unwrap();
        assert!(held.withdraw_boot_code(None).is_err(), "no tool has written any");
        let raw = disk.open().unwrap();
        raw.write_all_at(b"boot.img", 0).unwrap();
        raw.write_all_at(b"core.img", 8192).unwrap();
        raw.sync_all().unwrap();
        held.withdraw_boot_code(None).unwrap();
        let sector = |at: u64| {
            let file = File::open(disk.device()).unwrap();
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
        assert!(table_on(&disk, sector_size).is_none());
    }
}

#[test]
fn a_run_that_stops_after_the_boot_loader_leaves_nothing_that_looks_finished() {
    let disk = disk(512);
    let mut held = HeldDisk::hold(disk.checked().unwrap()).unwrap();
    held.partition(&plan(512)).unwrap();
    held.write_provisional().unwrap();
    assert!(table_on(&disk, 512).is_some());
    drop(held);
    assert!(table_on(&disk, 512).is_none());
    assert!(kernel_numbers(&disk).is_empty());
}
