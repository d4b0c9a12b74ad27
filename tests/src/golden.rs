//! Golden systems on loop disks: partitioned with `sfdisk`, formatted with the usual tools, mounted according
//! to `fstab`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::disk::Disk;
use crate::mounts::Mounted;
use crate::process::Program;
use crate::scratch::Scratch;

/// File systems that the build machine's kernel lacks (the project's notes on it, "Disks").
const FOREIGN: [&str; 4] = ["vfat", "jfs", "reiserfs", "f2fs"];

/// The kind of name by which `fstab` calls a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// By the file system's UUID: `UUID=`.
    Uuid,
    /// By the partition's GUID: `PARTUUID=`.
    PartUuid,
    /// By the file system's label: `LABEL=`.
    Label,
    /// By the device node: `/dev/loopNpM`.
    Device,
}

/// One line of the golden `fstab`.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Partition number.
    pub partition: u32,
    /// Type: `ext4`, `xfs`, `btrfs`, `swap`…
    pub fs: &'static str,
    /// Mount point, `none` for swap.
    pub mount: &'static str,
    /// Btrfs subvolume; made if it is not there.
    pub subvolume: Option<&'static str>,
    /// File system label, if any.
    pub label: Option<&'static str>,
    /// Kind of its name in `fstab`.
    pub by: By,
}

impl Volume {
    /// Describes a file system named by its UUID, without label.
    #[must_use]
    pub fn new(partition: u32, fs: &'static str, mount: &'static str) -> Self {
        Self {
            partition,
            fs,
            mount,
            subvolume: None,
            label: None,
            by: By::Uuid,
        }
    }

    /// Names it in another way.
    #[must_use]
    pub fn by(mut self, by: By) -> Self {
        self.by = by;
        self
    }

    /// Gives it a label.
    #[must_use]
    pub fn label(mut self, label: &'static str) -> Self {
        self.label = Some(label);
        self
    }

    /// Mounts a btrfs subvolume of it.
    #[must_use]
    pub fn subvolume(mut self, name: &'static str) -> Self {
        self.subvolume = Some(name);
        self
    }

    /// True if any build machine's kernel can mount it; a test looks into the others with a machine.
    #[must_use]
    pub fn is_mountable(&self) -> bool {
        !FOREIGN.contains(&self.fs)
    }

    fn options(&self) -> String {
        self.subvolume
            .map_or_else(|| "defaults".to_owned(), |name| format!("subvol={name}"))
    }
}

/// The description of a golden system.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Size of the disk in bytes.
    pub size: u64,
    /// Size of a sector in bytes.
    pub sector_size: u32,
    /// Script for `sfdisk`.
    pub table: &'static str,
    /// The lines of `fstab`, root first.
    pub volumes: Vec<Volume>,
    /// Lines of `fstab` that KA leaves alone: comments, tmpfs, network.
    pub foreign_fstab: &'static str,
}

/// A golden system, mounted.
#[derive(Debug)]
pub struct Golden {
    tree: MountedTree,
    disk: Disk,
    fstab: String,
}

impl Golden {
    /// Partitions, formats and mounts; the tree is empty but for its mount points.
    ///
    /// # Errors
    /// A tool fails; the error repeats its message.
    pub fn new(scratch: &Scratch, name: &str, plan: &Plan) -> Result<Self> {
        let disk = Disk::new(scratch, name, plan.size, plan.sector_size)?;
        disk.write_table(plan.table)?;
        format_all(scratch, &disk, &plan.volumes)
            .with_context(|| format!("making the golden system {name}"))?;
        let tree = MountedTree::new(&disk, &plan.volumes, &scratch.dir(&format!("{name}-root"))?)?;
        let fstab = fstab(&disk, plan)?;
        Ok(Self { tree, disk, fstab })
    }

    /// Returns the root directory of the tree.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.tree.root()
    }

    /// Returns its disk.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Unmounts it and leaves the disk, for a machine to boot from.
    #[must_use]
    pub fn into_disk(self) -> Disk {
        drop(self.tree);
        self.disk
    }

    /// Unmounts it, for a machine that runs on its disk. Its root is an empty directory then.
    pub fn unmount(&mut self) {
        self.tree.mounts.clear();
    }

    /// Returns the text that its `etc/fstab` should have.
    #[must_use]
    pub fn fstab(&self) -> &str {
        &self.fstab
    }
}

/// The file systems of a disk, mounted as one tree; unmounted on drop, innermost first.
#[derive(Debug)]
pub struct MountedTree {
    /// Mounts, innermost first: fields are dropped in order.
    mounts: Vec<Mounted>,
    root: PathBuf,
}

impl MountedTree {
    /// Mounts every volume that is no swap and whose type the build machine's kernel has, in the order given
    /// (root first).
    ///
    /// # Errors
    /// `mount` fails.
    pub fn new(disk: &Disk, volumes: &[Volume], root: &Path) -> Result<Self> {
        let mut tree = Self {
            mounts: Vec::new(),
            root: root.to_owned(),
        };
        let here = volumes
            .iter()
            .filter(|volume| volume.fs != "swap" && volume.is_mountable());
        for volume in here {
            let point = root.join(volume.mount.trim_start_matches('/'));
            let mounted = Mounted::new(&disk.partition(volume.partition), &point, &volume.options())?;
            tree.mounts.insert(0, mounted);
        }
        Ok(tree)
    }

    /// Returns the directory of the root file system.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// Returns blkid's value for a device: `UUID`, `LABEL`, `TYPE`, `PARTUUID`…; empty if there is none.
///
/// # Errors
/// `blkid` cannot be run.
pub fn tag(device: &Path, tag: &str) -> Result<String> {
    // blkid finds the PARTUUID only if it probes the device with the table in view (blkid(8), -p).
    let ended = Program::new("blkid")
        .args(["-p", "-o", "value", "-s"])
        .arg(blkid_name(tag))
        .arg(device)
        .finish()?;
    Ok(ended.stdout.trim().to_owned())
}

/// Returns the name that `fstab` should have for a volume of this disk.
///
/// # Errors
/// The device has no such name.
pub fn spec(disk: &Disk, volume: &Volume, by: By) -> Result<String> {
    let device = disk.partition(volume.partition);
    let named = |key: &str| -> Result<String> {
        let value = tag(&device, key)?;
        if value.is_empty() {
            bail!("{} has no {key}", device.display());
        }
        Ok(format!("{key}={value}"))
    };
    match by {
        By::Uuid => named("UUID"),
        By::PartUuid => named("PARTUUID"),
        By::Label => named("LABEL"),
        By::Device => Ok(device.display().to_string()),
    }
}

fn blkid_name(tag: &str) -> &str {
    if tag == "PARTUUID" { "PART_ENTRY_UUID" } else { tag }
}

fn fstab(disk: &Disk, plan: &Plan) -> Result<String> {
    let mut text = plan.foreign_fstab.to_owned();
    for volume in &plan.volumes {
        let pass = if volume.mount == "/" { 1 } else { 2 };
        let options = if volume.fs == "swap" {
            "sw".to_owned()
        } else {
            volume.options()
        };
        let spec = spec(disk, volume, volume.by)?;
        text.push_str(&format!(
            "{spec}\t{}  {} {options} 0 {pass}\n",
            volume.mount, volume.fs
        ));
    }
    Ok(text)
}

fn format_all(scratch: &Scratch, disk: &Disk, volumes: &[Volume]) -> Result<()> {
    disk.checked()?;
    let mut done = Vec::new();
    for volume in volumes {
        if !done.contains(&volume.partition) {
            format(&disk.partition(volume.partition), volume)?;
            done.push(volume.partition);
        }
    }
    // A subvolume that contains others comes first.
    let mut subvolumes: Vec<_> = volumes
        .iter()
        .filter_map(|volume| Some((volume.partition, volume.subvolume?)))
        .collect();
    subvolumes.sort_unstable();
    for (partition, name) in subvolumes {
        let top = Mounted::new(&disk.partition(partition), &scratch.dir("top")?, "subvolid=5")?;
        make_subvolume(top.point(), name)?;
    }
    Ok(())
}

/// Makes a subvolume and everything above it: `@…` as subvolumes, all else as directories.
fn make_subvolume(top: &Path, name: &str) -> Result<()> {
    let mut path = top.to_owned();
    let depth = Path::new(name).components().count();
    for (index, part) in Path::new(name).components().enumerate() {
        path.push(part);
        let is_subvolume = index + 1 == depth || part.as_os_str().as_encoded_bytes().starts_with(b"@");
        if path.exists() {
            continue;
        }
        if is_subvolume {
            Program::new("btrfs")
                .args(["subvolume", "create"])
                .arg(&path)
                .run()?;
        } else {
            fs::create_dir(&path)?;
        }
    }
    Ok(())
}

fn format(device: &Path, volume: &Volume) -> Result<()> {
    let (program, force) = match volume.fs {
        "ext2" => ("mkfs.ext2", "-qF"),
        "ext3" => ("mkfs.ext3", "-qF"),
        "ext4" => ("mkfs.ext4", "-qF"),
        "xfs" => ("mkfs.xfs", "-qf"),
        "btrfs" => ("mkfs.btrfs", "-qf"),
        // mkfs.vfat overwrites any file system: `-I` allows whole disks, which partitions are not.
        "vfat" => ("mkfs.vfat", "-I"),
        "swap" => ("mkswap", "-q"),
        other => bail!("the lab cannot make {other}"),
    };
    let mut make = Program::new(program).arg(force);
    if let Some(label) = volume.label {
        make = make.args(["-L", label]);
    }
    make.arg(device).run().map(drop)
}

/// Puts a working shell into a tree: busybox with its libraries and the names by which scripts and KA call
/// it.
///
/// # Errors
/// There is no busybox on this machine, or the tree cannot be written.
pub fn install_shell(root: &Path) -> Result<()> {
    const BUSYBOX: &str = "/usr/bin/busybox";
    let listed = Program::new("ldd").arg(BUSYBOX).run()?;
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    for library in libraries {
        copy(library, &root.join(library.trim_start_matches('/')))?;
    }
    copy(BUSYBOX, &root.join("usr/bin/busybox"))?;
    for name in [
        "awk", "cat", "cp", "dd", "grep", "mkdir", "readlink", "sed", "sh", "tail", "tr",
    ] {
        std::os::unix::fs::symlink("busybox", root.join("usr/bin").join(name))?;
    }
    Ok(())
}

fn copy(from: &str, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("a file is in a directory")?)?;
    fs::copy(from, to).with_context(|| format!("copying {from}"))?;
    Ok(())
}

/// Writes the golden `fstab` and the small tree.
///
/// # Errors
/// The tree cannot be written.
pub fn fill(golden: &Golden) -> Result<()> {
    crate::tree::small_system(golden.root(), golden.fstab())?;
    fs::write(golden.root().join("home/data"), crate::tree::noise(2_000_000, 42))?;
    Ok(())
}
