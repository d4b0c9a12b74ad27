//! Scratch disks with partitions, and golden systems on them. Everything goes away with its guard.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use ka_disk::desc::Desc;
use ka_disk::layout::{self, Geometry, PartitionPlan, Source};
use ka_disk::table::TableKind;
use ka_host::blkpg;
use ka_host::loopdev::LoopDevice;
use ka_host::mount::MountGuard;
use ka_host::run::Tool;

pub(crate) const MIB: u64 = 1 << 20;

/// A scratch disk whose partitions the kernel knows and whose table is written.
pub(crate) struct TestDisk {
    pub(crate) device: LoopDevice,
    pub(crate) plan: PartitionPlan,
}

impl TestDisk {
    pub(crate) fn new(mib: u64, sector_size: u32, desc: &str) -> Self {
        let device = LoopDevice::scratch(mib * MIB, sector_size).unwrap();
        let geometry = Geometry {
            disk_bytes: mib * MIB,
            sector_size,
        };
        let source = Source::Desc(Desc::parse(desc, "desc").unwrap());
        let plan = layout::plan(&source, &geometry, TableKind::Mbr, false, &mut uuid::Uuid::new_v4).unwrap();
        let file = open_shared(device.path());
        plan.write(&file, None).unwrap();
        for partition in plan.partitions() {
            // An extended partition overlaps its logical ones; the kernel shows a kilobyte of it at most.
            if !partition.kind.is_extended() {
                blkpg::add(
                    &file,
                    partition.number,
                    partition.start_bytes,
                    partition.len_bytes,
                )
                .unwrap();
            }
        }
        Self { device, plan }
    }

    pub(crate) fn name(&self) -> String {
        self.device.name()
    }

    pub(crate) fn partition(&self, number: u32) -> PathBuf {
        blkpg::node_of(self.device.path(), number).unwrap()
    }
}

/// A directory to mount below, named as the integration tests' lab names its own (`ka-lab-PID-…` in `/var/tmp`): its sweep
/// unmounts and removes what a test that was killed has left.
pub(crate) fn mount_point() -> tempfile::TempDir {
    let prefix = format!("ka-lab-{}-disk-", std::process::id());
    tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in("/var/tmp")
        .unwrap()
}

/// A golden system: its root directory with everything mounted below it.
pub(crate) struct Golden {
    guards: Vec<MountGuard>,
    pub(crate) root: tempfile::TempDir,
}

impl Golden {
    pub(crate) fn new() -> Self {
        Self {
            guards: Vec::new(),
            root: mount_point(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn mount(&mut self, device: &Path, at: &str, fstype: &str, options: &str) {
        let target = self.root.path().join(at.trim_start_matches('/'));
        fs::create_dir_all(&target).unwrap();
        let target = target.canonicalize().unwrap();
        self.guards
            .push(MountGuard::mount(device, &target, fstype, options).unwrap());
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.root.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn fstab(&self, text: &str) {
        self.write("/etc/fstab", text);
    }
}

impl Drop for Golden {
    fn drop(&mut self) {
        while let Some(guard) = self.guards.pop() {
            guard.unmount().unwrap();
        }
    }
}

/// Opens a disk without claiming it. A claim outlives its file for the moment in which another test's thread is
/// between fork and exec, and mkfs would find the disk busy.
pub(crate) fn open_shared(device: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(device).unwrap()
}

/// Runs a tool that must succeed; what it printed.
pub(crate) fn tool(program: &str, args: &[&str], device: &Path) -> String {
    Tool::new(program).args(args).arg(device).run().unwrap().text()
}

/// One field of what blkid says of a device.
pub(crate) fn blkid(device: &Path, field: &str) -> String {
    let output = Tool::new("blkid")
        .args(["-p", "-o", "value", "-s", field])
        .arg(device)
        .accept(2)
        .run()
        .unwrap();
    output.text().trim().to_owned()
}
