//! The checks of everything that can fail, before the first byte is written.

use std::path::Path;

use anyhow::{Context, bail};
use ka_disk::fs;
use ka_disk::inventory::{self, Choice, Disk, Wishes};
use ka_disk::spec::InstallSpec;
use ka_disk::table;
use ka_host::{kernel, mountinfo, system};
use ka_postinstall::facts::KnownPartitions;
use ka_report::text::size;

use super::held::HeldDisk;
use super::plan::{ClonePlan, PlannedDisk};
use crate::cli::{DiskOption, Options};

/// Memory that a node needs beside its buffer, in bytes: writers with a block each, the tools, the kernel.
const WORKING_MEMORY_BYTES: u64 = 48 << 20;

/// Chooses a disk for every drive of the spec.
///
/// # Errors
/// No disk, or more than one, may be taken; with the candidates and the option that decides.
pub(crate) fn choose_disks(spec: &InstallSpec, options: &Options) -> anyhow::Result<Vec<Choice>> {
    let device = |path: &Path| path.to_string_lossy().into_owned();
    let named: Vec<String> = options
        .disks
        .iter()
        .map(|option| device(&option.device))
        .collect();
    let overrides: Vec<_> = options
        .disks
        .iter()
        .map(|option| (option.drive.clone(), device(&option.device)))
        .collect();
    let disks = inventory::disks(&named)?;
    let wishes = Wishes {
        disks: overrides,
        erase_members: options.erase_members,
    };
    Ok(inventory::choose(spec, &disks, &wishes)?)
}

/// Checks this machine against the plan and takes the disks, so that no other program does.
///
/// # Errors
/// The first thing that is missing or in the way.
pub(crate) fn check(plan: &ClonePlan, options: &Options) -> anyhow::Result<Vec<HeldDisk>> {
    fs::check_node(&plan.spec)?;
    check_mount_dir(&plan.mount_dir)?;
    check_memory(system::available_memory_bytes(), options.buffer.0 as u64)?;
    let hold = |planned: &PlannedDisk| HeldDisk::hold_chosen(&planned.disk);
    plan.disks.iter().map(hold).collect()
}

/// Checks the options about this node's disks and directories before the server waits for this node. It finds
/// contradictions, missing disks and unusable directories. `looks` is true if the disks are here already: a
/// node that was booted into memory gets its drivers after it has joined.
///
/// # Errors
/// The option, what is wrong and what to do.
pub(crate) fn check_options(options: &Options, looks: bool) -> anyhow::Result<()> {
    check_mount_dir(&options.mount_dir)?;
    check_pairs(&options.disks)?;
    if !looks {
        return Ok(());
    }
    options.disks.iter().try_for_each(check_disk)
}

/// One disk for a drive, one drive for a disk: whatever names lead to the disk.
fn check_pairs(options: &[DiskOption]) -> anyhow::Result<()> {
    for (index, option) in options.iter().enumerate() {
        for before in &options[..index] {
            let is_same_disk = is_same(&before.device, &option.device);
            if before.drive == option.drive && !is_same_disk {
                bail!(
                    "--disk names two devices for {}: {} and {}; give one",
                    option.drive,
                    before.device.display(),
                    option.device.display()
                );
            }
            if before.drive != option.drive && is_same_disk {
                bail!(
                    "--disk gives one disk to two drives: {}={} and {}={}; each drive needs a disk of its own",
                    before.drive,
                    before.device.display(),
                    option.drive,
                    option.device.display()
                );
            }
        }
    }
    Ok(())
}

fn is_same(one: &Path, other: &Path) -> bool {
    let numbers = |path: &Path| inventory::numbers_of(&path.to_string_lossy());
    one == other || numbers(one).is_some_and(|found| Some(found) == numbers(other))
}

fn check_disk(option: &DiskOption) -> anyhow::Result<()> {
    let named = option.device.to_string_lossy().into_owned();
    let said = format!("--disk {}={named}", option.drive);
    let disks = inventory::disks(std::slice::from_ref(&named))?;
    let Some(numbers) = inventory::numbers_of(&named) else {
        let here: Vec<_> = disks.iter().map(|disk| disk.path.display().to_string()).collect();
        let here = if here.is_empty() {
            "there is none here".to_owned()
        } else {
            format!("here are {}", here.join(", "))
        };
        let what = if option.device.exists() {
            "that is no disk"
        } else {
            "there is no such disk"
        };
        bail!("{said}: {what}; {here}");
    };
    if !disks.iter().any(|disk| disk.numbers == numbers) {
        bail!("{said}: that is not a whole disk; name the disk and not a partition of it");
    }
    Ok(())
}

/// Checks for root and for the kernel's features. Without this the first error would be about some device's
/// permissions, and a missing feature would show in the middle of the work.
///
/// # Errors
/// Not root; a kernel that is too old.
pub(crate) fn check_machine() -> anyhow::Result<()> {
    if !system::is_root() {
        bail!("cloning needs root: run ka-client as root");
    }
    Ok(kernel::check()?)
}

/// Returns the partitions that boot entries of this machine's firmware may name. These are the ones that will
/// be overwritten, and those of all other disks, as far as they can be read.
pub(crate) fn known_partitions(plan: &ClonePlan) -> KnownPartitions {
    let is_ours = |disk: &Disk| plan.disks.iter().any(|planned| planned.disk.path == disk.path);
    let ours = plan.disks.iter().map(|planned| &planned.disk);
    let others = inventory::disks(&[]).ok();
    let kept = others.and_then(|disks| {
        let others = disks.iter().filter(|disk| !is_ours(disk) && disk.bytes > 0);
        let tables = others.map(partuuids).collect::<Option<Vec<_>>>()?;
        Some(tables.concat())
    });
    KnownPartitions {
        erased: ours.filter_map(partuuids).flatten().collect(),
        kept,
    }
}

/// None where the disk cannot be read; no table is none of them.
fn partuuids(disk: &Disk) -> Option<Vec<String>> {
    let file = std::fs::File::open(&disk.path).ok()?;
    match table::read(&file, disk.sector_size) {
        Ok(Some(table)) => Some(
            table
                .partitions
                .iter()
                .filter_map(|part| table.partuuid(part))
                .collect(),
        ),
        Ok(None) => Some(Vec::new()),
        Err(_) => None,
    }
}

fn check_mount_dir(dir: &Path) -> anyhow::Result<()> {
    if !dir.is_absolute() {
        bail!("--mount-dir {}: give an absolute path", dir.display());
    }
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return check_parent(dir),
        Err(error) => return Err(error).with_context(|| format!("--mount-dir {}", dir.display())),
    };
    let resolved = dir
        .canonicalize()
        .with_context(|| format!("--mount-dir {}", dir.display()))?;
    if mountinfo::find_at(&mountinfo::read()?, &resolved).is_some() {
        bail!(
            "{} is a mount point already: unmount it, or choose another with --mount-dir",
            dir.display()
        );
    }
    if entries.count() > 0 {
        bail!(
            "{} is not empty: empty it, or choose another with --mount-dir",
            dir.display()
        );
    }
    Ok(())
}

/// The directory is made when the run begins; here only that its nearest parent is a directory.
fn check_parent(dir: &Path) -> anyhow::Result<()> {
    match dir.ancestors().find(|ancestor| ancestor.exists()) {
        Some(parent) if parent.is_dir() => Ok(()),
        _ => bail!("--mount-dir {}: a parent of it is not a directory", dir.display()),
    }
}

fn check_memory(available_bytes: Option<u64>, buffer_bytes: u64) -> anyhow::Result<()> {
    let needed_bytes = buffer_bytes + WORKING_MEMORY_BYTES;
    match available_bytes {
        Some(available_bytes) if available_bytes < needed_bytes => bail!(
            "{} of memory are available and {} are needed: free some, or use a smaller --buffer",
            size(available_bytes),
            size(needed_bytes)
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_memory_names_the_option_that_helps() {
        let error = check_memory(Some(100 << 20), 64 << 20).unwrap_err().to_string();
        assert!(
            error.contains("100.0 MiB") && error.contains("--buffer"),
            "{error}"
        );
        assert!(check_memory(Some(512 << 20), 64 << 20).is_ok());
        assert!(check_memory(None, 64 << 20).is_ok());
    }

    fn pairs(texts: &[&str]) -> Result<(), String> {
        let options: Vec<DiskOption> = texts.iter().map(|text| text.parse().unwrap()).collect();
        check_pairs(&options).map_err(|error| error.to_string())
    }

    #[test]
    fn options_that_contradict_each_other_are_told_with_both_sides() {
        let error = pairs(&["sda=/dev/loop8", "sda=/dev/loop9"]).unwrap_err();
        assert_eq!(
            error,
            "--disk names two devices for sda: /dev/loop8 and /dev/loop9; give one"
        );
        let error = pairs(&["sda=nosuch", "sdb=/dev/nosuch"]).unwrap_err();
        assert!(error.contains("sda=/dev/nosuch and sdb=/dev/nosuch"), "{error}");
        pairs(&["sda=/dev/loop8", "sda=loop8", "sdb=loop9"]).unwrap();
    }

    #[test]
    fn one_disk_is_one_disk_by_whatever_name() {
        let disk = ka_lab::disk::Disk::scratch(8 << 20, 512).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("wwn-0x5000");
        std::os::unix::fs::symlink(disk.device(), &link).unwrap();
        let (plain, link) = (disk.device().display(), link.display());
        let error = pairs(&[&format!("sda={plain}"), &format!("sdb={link}")]).unwrap_err();
        assert!(error.contains("one disk to two drives"), "{error}");
        pairs(&[&format!("sda={plain}"), &format!("sda={link}")]).unwrap();
        check_disk(&format!("sda={link}").parse().unwrap()).unwrap();
    }

    #[test]
    fn a_disk_that_is_not_there_or_no_disk_is_told_before_joining() {
        let check = |text: &str| check_disk(&text.parse().unwrap()).unwrap_err().to_string();
        let error = check("sda=/dev/nosuch");
        assert!(
            error.starts_with("--disk sda=/dev/nosuch: there is no such disk; here are /dev/"),
            "{error}"
        );
        assert!(check("sda=/dev/null").contains("that is no disk"));
        let disk = ka_lab::disk::Disk::scratch(16 << 20, 512).unwrap();
        let file = ka_host::block::open_exclusive(disk.checked().unwrap()).unwrap();
        ka_host::blkpg::add(&file, 1, 1 << 20, 8 << 20).unwrap();
        drop(file);
        let error = check(&format!("sda={}", disk.partition(1).display()));
        assert!(error.contains("name the disk and not a partition"), "{error}");
    }

    #[test]
    fn a_mount_directory_in_use_or_with_contents_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check_mount_dir(dir.path()).is_ok());
        std::fs::write(dir.path().join("file"), "").unwrap();
        let error = check_mount_dir(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("not empty") && error.contains("--mount-dir"),
            "{error}"
        );
        let error = check_mount_dir(Path::new("/proc")).unwrap_err().to_string();
        assert!(error.contains("mount point already"), "{error}");
        assert!(check_mount_dir(Path::new("relative")).is_err());
        assert!(check_mount_dir(&dir.path().join("file")).is_err());
    }

    #[test]
    fn a_mount_directory_that_is_not_there_is_fine_and_not_made_yet() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("mnt/disk");
        check_mount_dir(&deep).unwrap();
        assert!(!deep.exists());
        std::fs::write(dir.path().join("mnt"), "").unwrap();
        assert!(check_mount_dir(&deep).is_err());
    }
}
