//! Disks to write to: sparse files, as they are or behind a loop device with 4096-byte sectors.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use ka_disk::layout::{Geometry, PartitionPlan};
use ka_host::loopdev::{LoopDevice, LoopOptions};
use tempfile::NamedTempFile;

/// Sectors that only a loop device gives a file.
pub(crate) const BIG_SECTOR: u32 = 4096;

/// A disk of a geometry, gone when dropped.
pub(crate) struct Disk {
    file: NamedTempFile,
    device: Option<LoopDevice>,
}

impl Disk {
    /// An empty one: a file, or where its sectors ask for it a loop device.
    pub(crate) fn new(geometry: &Geometry) -> Self {
        if geometry.sector_size == BIG_SECTOR {
            return Self::on_loop(geometry);
        }
        Self {
            file: sparse(geometry.disk_bytes),
            device: None,
        }
    }

    /// An empty one that is a block device.
    pub(crate) fn on_loop(geometry: &Geometry) -> Self {
        assert!(
            ka_host::system::is_root(),
            "loop devices need root: run `cargo xtask test`"
        );
        let file = sparse(geometry.disk_bytes);
        let options = LoopOptions {
            sector_size: geometry.sector_size,
            read_only: false,
        };
        let device = LoopDevice::attach(file.path(), options).unwrap();
        Self {
            file,
            device: Some(device),
        }
    }

    /// One that `plan` stands on.
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
        let path = self.device.as_ref().map_or(self.file.path(), LoopDevice::path);
        path.to_owned()
    }

    pub(crate) fn open(&self) -> File {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path())
            .unwrap()
    }
}

fn sparse(bytes: u64) -> NamedTempFile {
    // tmpfs takes files of any length, and its fsync costs nothing.
    let shm = Path::new("/dev/shm");
    let dir = if shm.is_dir() {
        shm.to_owned()
    } else {
        std::env::temp_dir()
    };
    let file = NamedTempFile::new_in(dir).unwrap();
    file.as_file().set_len(bytes).unwrap();
    file
}
