//! The plan of this node as a value: made from the golden node's specification and the chosen disks,
//! printed by `--dry-run`, sent to the server, then carried out. Nothing here touches a disk.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};
use ka_disk::fs::{self, Target, ToolRun, ToolVersions};
use ka_disk::inventory::{Choice, Disk};
use ka_disk::layout::{self, PartitionPlan};
use ka_disk::mounts::{self, MountPlan};
use ka_disk::spec::{FsSpec, InstallSpec, Place, RawSpec, StreamKind, check_fit, partition_name};
use ka_postinstall::bootloader::Install;
use ka_postinstall::facts::KnownPartitions;
use ka_postinstall::root::Root;
use ka_report::report::{DiskPlan, NodePlan};
use ka_report::text::size;
use uuid::Uuid;

/// Everything this node will do.
#[derive(Debug)]
pub(crate) struct ClonePlan {
    /// The server's specification.
    pub(crate) spec: InstallSpec,
    /// The disks, in the order of the spec's drives.
    pub(crate) disks: Vec<PlannedDisk>,
    /// The file systems and swap areas, in the order of the spec.
    pub(crate) filesystems: Vec<PlannedFs>,
    /// Their mounts.
    pub(crate) mounts: MountPlan,
    /// The directory under which they are mounted.
    pub(crate) mount_dir: PathBuf,
    /// The boot loader to install; none where there is none to be.
    pub(crate) install: Option<Install>,
    /// The partitions that this machine has before anything is written.
    pub(crate) known_partitions: KnownPartitions,
}

/// A disk of this node with its plan.
#[derive(Debug)]
pub(crate) struct PlannedDisk {
    /// Golden name of the drive.
    pub(crate) drive: String,
    /// The disk.
    pub(crate) disk: Disk,
    /// Its partitions.
    pub(crate) partitions: PartitionPlan,
    /// The boot code of `-m` or `-M`.
    pub(crate) boot_code: Option<[u8; 446]>,
}

/// A file system or swap area to make.
#[derive(Debug)]
pub(crate) struct PlannedFs {
    /// Its number in the spec.
    pub(crate) id: u32,
    /// The partition's device node, `/dev/nvme0n1p2`.
    pub(crate) device: PathBuf,
    /// The programs to run, in order.
    pub(crate) runs: Vec<ToolRun>,
}

impl ClonePlan {
    /// Plans `spec` on the chosen disks, for mkfs tools of the versions `tools`.
    ///
    /// # Errors
    /// A layout that is not possible on a disk, data that does not fit, a specification that contradicts
    /// itself.
    pub(crate) fn new(
        spec: InstallSpec,
        choices: Vec<Choice>,
        mount_dir: &Path,
        tools: &ToolVersions,
    ) -> anyhow::Result<Self> {
        check_spec(&spec)?;
        let disks = choices
            .into_iter()
            .map(|choice| plan_disk(&spec, choice))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let filesystems = spec
            .filesystems
            .iter()
            .map(|fs| plan_fs(&disks, fs, tools))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let devices: Vec<_> = filesystems.iter().map(|fs| (fs.id, fs.device.clone())).collect();
        let mounts = mounts::plan(&spec, &devices)?;
        Ok(Self {
            spec,
            disks,
            filesystems,
            mounts,
            mount_dir: mount_dir.to_owned(),
            install: None,
            known_partitions: KnownPartitions::default(),
        })
    }

    /// Returns the planned disk that becomes golden drive `drive`.
    ///
    /// # Errors
    /// The spec names a drive that it does not have.
    pub(crate) fn disk(&self, drive: &str) -> anyhow::Result<&PlannedDisk> {
        find_disk(&self.disks, drive)
    }

    /// Device node and length in bytes of a raw partition's target.
    ///
    /// # Errors
    /// As [`Self::disk`].
    pub(crate) fn raw_target(&self, raw: &RawSpec) -> anyhow::Result<(PathBuf, u64)> {
        locate(&self.disks, &raw.place)
    }

    /// Returns the place of an absolute path of the clone during the run.
    pub(crate) fn below(&self, path: &str) -> PathBuf {
        // Joining an empty path would add a slash.
        let inner = path.trim_start_matches('/');
        if inner.is_empty() {
            self.mount_dir.clone()
        } else {
            self.mount_dir.join(inner)
        }
    }

    /// Opens the directory under which the clone is mounted.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn open_root(&self) -> anyhow::Result<Root> {
        Root::open(&self.mount_dir).with_context(|| format!("opening {}", self.mount_dir.display()))
    }

    /// Returns the plan as the server and the operator see it.
    pub(crate) fn summary(&self) -> NodePlan {
        NodePlan {
            disks: self.disks.iter().map(PlannedDisk::summary).collect(),
            actions: self.actions(),
            // The golden node's notes are the server's to show: once, not once a node.
            warnings: Vec::new(),
        }
    }

    /// Returns the actions, one line each, in order.
    fn actions(&self) -> Vec<String> {
        let mut actions = Vec::new();
        for disk in &self.disks {
            let count = disk.partitions.partitions().len();
            let path = disk.disk.path.display();
            actions.push(disk.erasing());
            actions.push(format!(
                "make {count} partitions on {path} ({})",
                disk.partitions.table.kind
            ));
        }
        actions.extend(
            self.filesystems
                .iter()
                .flat_map(|fs| &fs.runs)
                .map(ToolRun::command_line),
        );
        for tree in &self.spec.trees {
            actions.push(format!(
                "restore {} under {}",
                tree.path,
                self.mount_dir.display()
            ));
        }
        for raw in &self.spec.raw {
            actions.push(format!(
                "write the raw copy of {} ({})",
                raw.golden.path,
                size(raw.bytes)
            ));
        }
        actions.extend(
            self.spec
                .swap_files
                .iter()
                .map(|file| format!("make the swap file {} ({})", file.path, size(file.size_bytes))),
        );
        actions.push("rewrite etc/fstab and other references to disks for the new devices".to_owned());
        let keeps = self.spec.boot.keep_identity;
        actions.push(if keeps {
            "keep the golden node's host name, ids and keys (--keep-identity)".to_owned()
        } else {
            "give the clone a host name, ids and keys of its own".to_owned()
        });
        if let Some(install) = &self.install {
            actions.push(format!("rebuild the initramfs, install {install}"));
        }
        for disk in self.disks.iter().rev() {
            let code = if disk.boot_code.is_some() {
                " with the golden boot code"
            } else {
                ""
            };
            actions.push(format!(
                "write the partition table of {}{code}",
                disk.disk.path.display()
            ));
        }
        actions
    }
}

impl PlannedDisk {
    /// `erase /dev/sda (2.0 GiB), which now holds: gpt, ext4 "root"; it becomes sda`.
    pub(crate) fn erasing(&self) -> String {
        let (path, bytes) = (self.disk.path.display(), size(self.disk.bytes));
        if self.disk.contents.is_empty() {
            return format!(
                "erase {path} ({bytes}), which is empty; it becomes {}",
                self.drive
            );
        }
        let contents = &self.disk.contents;
        format!(
            "erase {path} ({bytes}), which now holds: {contents}; it becomes {}",
            self.drive
        )
    }

    fn holds(&self) -> String {
        if self.disk.contents.is_empty() {
            return String::new();
        }
        self.disk.contents.to_string()
    }

    /// As the server and the operator see it.
    pub(crate) fn summary(&self) -> DiskPlan {
        let identity = format!("{} {}", self.disk.model, self.disk.serial);
        DiskPlan {
            drive: self.drive.clone(),
            device: self.disk.path.display().to_string(),
            disk_bytes: self.disk.bytes,
            sector_size_bytes: self.disk.sector_size,
            identity: identity.trim().to_owned(),
            holds: self.holds(),
        }
    }
}

fn plan_disk(spec: &InstallSpec, choice: Choice) -> anyhow::Result<PlannedDisk> {
    let Choice { drive, disk } = choice;
    let golden = spec
        .drive(&drive)
        .with_context(|| format!("the specification has no drive {drive}"))?;
    let partitions = layout::plan(
        &golden.source,
        &disk.geometry(),
        golden.golden_table,
        spec.keep_uuids,
        &mut Uuid::new_v4,
    )
    .with_context(|| format!("planning {drive} on {}", disk.path.display()))?;
    check_fit(spec, &drive, &partitions)
        .with_context(|| format!("planning {drive} on {}", disk.path.display()))?;
    if golden.boot_code.is_some() && golden.boot_code_array().is_none() {
        bail!("the boot code of {drive} is not 446 bytes long");
    }
    let boot_code = golden.boot_code_array().copied();
    Ok(PlannedDisk {
        drive,
        disk,
        partitions,
        boot_code,
    })
}

fn plan_fs(disks: &[PlannedDisk], fs: &FsSpec, tools: &ToolVersions) -> anyhow::Result<PlannedFs> {
    let (device, len_bytes) = locate(disks, &fs.place)?;
    let sector_size = find_disk(disks, &fs.place.drive)?.disk.sector_size;
    let runs = fs::mkfs_plan(
        fs,
        &Target {
            device: device.clone(),
            len_bytes,
            sector_size,
        },
        tools,
    )?;
    Ok(PlannedFs {
        id: fs.id,
        device,
        runs,
    })
}

fn find_disk<'a>(disks: &'a [PlannedDisk], drive: &str) -> anyhow::Result<&'a PlannedDisk> {
    disks
        .iter()
        .find(|disk| disk.drive == drive)
        .with_context(|| format!("no disk was chosen for {drive}"))
}

/// Device node and length in bytes of a place.
fn locate(disks: &[PlannedDisk], place: &Place) -> anyhow::Result<(PathBuf, u64)> {
    let disk = find_disk(disks, &place.drive)?;
    let partition = disk
        .partitions
        .find(place.partition)
        .with_context(|| format!("the plan has no partition {place}"))?;
    let device = partition_name(&disk.disk.path.display().to_string(), place.partition);
    Ok((PathBuf::from(device), partition.len_bytes))
}

/// Refuses a specification that no honest server sends: paths that lead out of the mount directory, streams
/// without a subject.
fn check_spec(spec: &InstallSpec) -> anyhow::Result<()> {
    let mounts = spec
        .filesystems
        .iter()
        .flat_map(|fs| &fs.mounts)
        .map(|mount| &mount.path);
    let trees = spec.trees.iter().map(|tree| &tree.path);
    let swap_files = spec.swap_files.iter().map(|file| &file.path);
    for path in mounts.chain(trees).chain(swap_files) {
        let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        if !path.starts_with('/') || !Path::new(path).components().all(plain) {
            bail!("the specification holds the path {path:?}, which is not a plain absolute one");
        }
    }
    let mut ids = HashSet::new();
    if !spec.filesystems.iter().all(|fs| ids.insert(fs.id)) {
        bail!("the specification gives two file systems the same number");
    }
    for stream in &spec.streams {
        if let StreamKind::Raw { index } = stream.kind
            && spec.raw.get(index as usize).is_none()
        {
            bail!(
                "stream {} carries raw partition {index}, which the specification does not have",
                stream.name
            );
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
