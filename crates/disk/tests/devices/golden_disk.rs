//! Scratch disks with partitions, and golden systems on them. Everything goes away with its guard.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use ka_disk::desc::Desc;
use ka_disk::layout::{self, Geometry, PartitionPlan, Source};
use ka_disk::table::TableKind;
use ka_host::blkpg;
use ka_lab::disk::{Disk, MIB};
use ka_lab::mounts::Mounted;
use ka_lab::process::Program;
use ka_lab::scratch::Scratch;

/// A scratch disk whose partitions the kernel knows and whose table is written.
pub(crate) struct TestDisk {
    pub(crate) disk: Disk,
    pub(crate) plan: PartitionPlan,
}

impl TestDisk {
    pub(crate) fn new(mib: u64, sector_size: u32, desc: &str) -> Self {
        let disk = Disk::scratch(mib * MIB, sector_size).unwrap();
        let geometry = Geometry {
            disk_bytes: mib * MIB,
            sector_size,
        };
        let source = Source::Desc(Desc::parse(desc, "desc").unwrap());
        let plan = layout::plan(&source, &geometry, TableKind::Mbr, false, &mut uuid::Uuid::new_v4).unwrap();
        let file = disk.open().unwrap();
        plan.write(&file, None).unwrap();
        add_partitions(&file, &plan);
        Self { disk, plan }
    }

    pub(crate) fn name(&self) -> String {
        self.disk.name()
    }

    pub(crate) fn partition(&self, number: u32) -> PathBuf {
        blkpg::node_of(self.disk.device(), number).unwrap()
    }
}

/// Tells the kernel the partitions of a plan. An extended partition overlaps its logical ones; the kernel shows
/// a kilobyte of it at most.
pub(crate) fn add_partitions(file: &File, plan: &PartitionPlan) {
    for partition in plan.partitions() {
        if !partition.kind.is_extended() {
            blkpg::add(file, partition.number, partition.start_bytes, partition.len_bytes).unwrap();
        }
    }
}

/// A golden system: its root directory with everything mounted below it.
pub(crate) struct Golden {
    mounts: Vec<Mounted>,
    root: Scratch,
}

impl Golden {
    pub(crate) fn new() -> Self {
        Self {
            mounts: Vec::new(),
            root: Scratch::new("golden").unwrap(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn mount(&mut self, device: &Path, at: &str, fstype: &str, options: &str) {
        let target = self.root.path().join(at.trim_start_matches('/'));
        fs::create_dir_all(&target).unwrap();
        let target = target.canonicalize().unwrap();
        let mounted = Mounted::of_type(fstype, device, &target, options);
        self.mounts.push(mounted.unwrap());
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
        // The innermost goes first.
        while self.mounts.pop().is_some() {}
    }
}

/// Runs a tool that must succeed, and returns its output.
pub(crate) fn tool(program: &str, args: &[&str], device: &Path) -> String {
    Program::new(program).args(args).arg(device).run().unwrap()
}

/// Returns one field of blkid's output for a device.
pub(crate) fn blkid(device: &Path, field: &str) -> String {
    let output = Program::new("blkid")
        .args(["-p", "-o", "value", "-s", field])
        .arg(device)
        .finish()
        .unwrap();
    assert!(matches!(output.code, Some(0 | 2)), "{}", output.all());
    output.stdout.trim().to_owned()
}
