//! Disks to write to: sparse files, as they are or behind a loop device with 4096-byte sectors.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use ka_disk::layout::{Geometry, PartitionPlan};
use ka_lab::disk::Disk as LoopDisk;
use tempfile::NamedTempFile;

/// Sector size in bytes that only a loop device gives a file.
pub(crate) const BIG_SECTOR: u32 = 4096;

/// A disk of a geometry, gone when dropped.
pub(crate) enum Disk {
    /// A file as it is.
    File(NamedTempFile),
    /// A block device.
    Loop(LoopDisk),
}

impl Disk {
    /// Makes an empty one: a file, or a loop device if its sectors need one.
    pub(crate) fn new(geometry: &Geometry) -> Self {
        if geometry.sector_size == BIG_SECTOR {
            return Self::on_loop(geometry);
        }
        let file = NamedTempFile::new_in(memory()).unwrap();
        file.as_file().set_len(geometry.disk_bytes).unwrap();
        Self::File(file)
    }

    /// Makes an empty one that is a block device.
    pub(crate) fn on_loop(geometry: &Geometry) -> Self {
        assert!(
            ka_host::system::is_root(),
            "loop devices need root: run `cargo xtask test`"
        );
        Self::Loop(LoopDisk::scratch_below(&memory(), geometry.disk_bytes, geometry.sector_size).unwrap())
    }

    /// Makes one that holds `plan`.
    pub(crate) fn with(plan: &PartitionPlan) -> Self {
        let table = &plan.table;
        let disk = Self::new(&Geometry {
            disk_bytes: table.disk_bytes,
            sector_size: table.sector_size,
        });
        let file = disk.open();
        plan.wipe(&file).unwrap();
        plan.write(&file, None).unwrap();
        plan.verify(&file).unwrap();
        disk
    }

    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::File(file) => file.path().to_owned(),
            Self::Loop(disk) => disk.device().to_owned(),
        }
    }

    pub(crate) fn open(&self) -> File {
        match self {
            Self::File(file) => OpenOptions::new()
                .read(true)
                .write(true)
                .open(file.path())
                .unwrap(),
            Self::Loop(disk) => disk.open().unwrap(),
        }
    }
}

/// Returns a directory in memory if there is one: tmpfs takes files of any length, and its fsync costs nothing.
fn memory() -> PathBuf {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() {
        shm.to_owned()
    } else {
        std::env::temp_dir()
    }
}
