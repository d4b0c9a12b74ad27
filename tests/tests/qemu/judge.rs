//! The judge of a clone: it must have the golden tree but for what makes it a machine of its own. No code of
//! KA judges here.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use ka_tests::compare::{self, Allowed};
use ka_tests::disk::Disk;
use ka_tests::golden::{self, By, MountedTree, Volume};
use ka_tests::process::Program;

use ka_tests::qemu::room::Room;

/// The identity of a machine, which no other may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) hostname: String,
    pub(crate) machine_id: String,
    /// Public halves of the SSH host keys, all of them.
    pub(crate) ssh_keys: String,
    /// UUID of the root file system.
    pub(crate) root_uuid: String,
}

/// Files that are new in every clone. Directories whose entries came, went or were replaced have other times.
const REWRITTEN: [&str; 24] = [
    "",
    "boot",
    "boot/grub",
    "etc",
    "etc/default/grub",
    "etc/dracut.conf.d",
    "etc/fstab",
    "etc/hostname",
    "etc/hosts",
    "etc/initramfs-tools",
    "etc/initramfs-tools/modules",
    "etc/kernel",
    "etc/kernel/cmdline",
    "etc/machine-id",
    "etc/modprobe.d",
    "etc/ssh",
    "etc/systemd/system",
    "etc/systemd/system/multi-user.target.wants",
    "var/lib",
    "var/lib/initramfs-tools",
    "var/lib/systemd",
    "var/log",
    "var/cache/ldconfig",
    "var/tmp",
];

/// Files that only one of both has, or that tools of the clone make: the clone's boot is their test.
const IGNORED: [&str; 7] = [
    "boot/grub",
    "etc/dracut.conf.d/90-ka-hardware.conf",
    "etc/kernel/entry-token",
    "etc/systemd/system/multi-user.target.wants/ka-beacon.service",
    "etc/systemd/system/ka-beacon.service",
    "var/lib/ka",
    "var/log/ka",
];

/// Compares the disk of a machine that was cloned and has not booted since; returns its identity.
pub(crate) fn clone(room: &Room, disk: &Disk, volumes: &[Volume]) -> Result<Identity> {
    disk.reread()?;
    let verified = Program::new("sfdisk")
        .arg("--verify")
        .arg(disk.checked()?)
        .finish()?;
    ensure!(verified.code == Some(0), "sfdisk --verify: {}", verified.all());
    disk.show_partitions()?;
    let point = room.lab.scratch().dir(&format!("judged-{}", disk.name()))?;
    let tree = MountedTree::new(disk, volumes, &point).context("mounting the clone")?;
    let found = compare::trees(
        room.golden.root(),
        tree.root(),
        &allowed(room, tree.root(), volumes)?,
    )?;
    found.expect_same()?;
    println!("{}: {found}", disk.name());
    fstab(disk, volumes, tree.root())?;
    identity(disk, volumes, tree.root())
}

/// Insists that none of the machines, the golden one included, has anything of another.
pub(crate) fn distinct(room: &Room, golden: &[Volume], clones: &[Identity]) -> Result<()> {
    let golden = identity(room.golden.disk(), golden, room.golden.root())?;
    let all: Vec<&Identity> = clones.iter().chain([&golden]).collect();
    for (index, one) in all.iter().enumerate() {
        for other in &all[index + 1..] {
            ensure!(one.hostname != other.hostname, "two are called {}", one.hostname);
            ensure!(
                one.machine_id != other.machine_id,
                "two have machine-id {}",
                one.machine_id
            );
            ensure!(
                one.root_uuid != other.root_uuid,
                "two have a root {}",
                one.root_uuid
            );
            let common = one.ssh_keys.lines().find(|line| other.ssh_keys.contains(*line));
            ensure!(common.is_none(), "two have the SSH host key {common:?}");
        }
    }
    Ok(())
}

fn identity(disk: &Disk, volumes: &[Volume], root: &Path) -> Result<Identity> {
    let text = |path: &str| -> Result<String> {
        let read = fs::read_to_string(root.join(path));
        Ok(read.with_context(|| format!("reading {path}"))?.trim().to_owned())
    };
    let mut keys = Vec::new();
    for path in ssh_keys(root)? {
        if path.extension().is_some_and(|extension| extension == "pub") {
            let line = text(&path.to_string_lossy())?;
            // The third word is a comment.
            keys.push(line.split(' ').take(2).collect::<Vec<_>>().join(" "));
        }
    }
    let first = volumes.first().context("a root")?;
    Ok(Identity {
        hostname: text("etc/hostname")?,
        machine_id: text("etc/machine-id")?,
        ssh_keys: keys.join("\n"),
        root_uuid: golden::tag(&disk.partition(first.partition), "UUID")?,
    })
}

/// Insists that fstab names every file system by its own UUID, and that all other lines stand as they were.
fn fstab(disk: &Disk, volumes: &[Volume], root: &Path) -> Result<()> {
    let fstab = fs::read_to_string(root.join("etc/fstab"))?;
    ensure!(
        fstab.starts_with("# the golden node's own\nproc /proc"),
        "foreign lines changed:\n{fstab}"
    );
    for volume in volumes {
        let spec = golden::spec(disk, volume, By::Uuid)?;
        let line = fstab.lines().find(|line| line.starts_with(&spec));
        let line = line.with_context(|| format!("no {spec} in fstab:\n{fstab}"))?;
        let fields: Vec<_> = line.split_whitespace().collect();
        ensure!(
            fields[1] == volume.mount && fields[2] == volume.fs,
            "fstab says {line}"
        );
    }
    Ok(())
}

fn allowed(room: &Room, clone: &Path, volumes: &[Volume]) -> Result<Allowed> {
    let mut allowed = Allowed::for_system();
    allowed.other_filesystem = true;
    allowed.rewritten.extend(REWRITTEN.map(PathBuf::from));
    allowed.ignored.extend(IGNORED.map(PathBuf::from));
    let elsewhere = volumes.iter().filter(|volume| !volume.is_mountable());
    allowed
        .ignored
        .extend(elsewhere.map(|volume| PathBuf::from(volume.mount.trim_start_matches('/'))));
    for root in [room.golden.root(), clone] {
        allowed.rewritten.extend(ssh_keys(root)?);
        allowed.rewritten.extend(matching(root, "boot", "initrd.img-")?);
        allowed
            .rewritten
            .extend(matching(root, "var/lib/initramfs-tools", "")?);
        allowed.ignored.extend(matching(root, "etc/modprobe.d", "ka")?);
        allowed.ignored.extend(matching(root, "boot", "initrd.img.")?);
    }
    Ok(allowed)
}

fn ssh_keys(root: &Path) -> Result<Vec<PathBuf>> {
    matching(root, "etc/ssh", "ssh_host_")
}

/// Returns the names (relative to the root) in a directory with this prefix; none if there is no such
/// directory.
fn matching(root: &Path, dir: &str, prefix: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join(dir)).into_iter().flatten() {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) {
            found.push(Path::new(dir).join(name));
        }
    }
    found.sort();
    Ok(found)
}
