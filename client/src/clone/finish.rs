//! The finishing steps: what makes the restored tree a system of its own, then the table that makes it bootable.

use std::fs::{File, FileTimes};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, bail};
use ka_disk::fs;
use ka_disk::spec::{FsSpec, InstallSpec, SwapFileSpec};
use ka_postinstall::fstab::{self, CloneDevice, DeviceMap};
use ka_status::event::Step;
use rustix::fs::{IFlags, OFlags, ioctl_getflags, ioctl_setflags, syncfs};

use super::beneath::Root;
use super::build::Installation;
use super::held::HeldDisk;
use super::plan::ClonePlan;
use crate::journal::Journal;
use crate::steps::StepDef;

/// What happens once every stream has arrived. The table comes last but for its own check: a run that stops
/// anywhere before leaves a disk that nothing boots from.
pub(crate) const FINISH: [StepDef<Installation>; 8] = [
    StepDef {
        step: Step::ExcludedDirs,
        run: excluded_dirs,
    },
    StepDef {
        step: Step::SwapFiles,
        run: swap_files,
    },
    StepDef {
        step: Step::Fstab,
        run: rewrite_fstab,
    },
    StepDef {
        step: Step::Beacon,
        run: leave_beacon,
    },
    StepDef {
        step: Step::Sync,
        run: sync,
    },
    StepDef {
        step: Step::Unmount,
        run: unmount,
    },
    StepDef {
        step: Step::WriteTable,
        run: write_table,
    },
    StepDef {
        step: Step::Verify,
        run: verify,
    },
];

/// fstab is a text of a few KiB; anything this long is not one.
const MAX_FSTAB_BYTES: u64 = 4 << 20;

/// Excluded directories came with the stream, empty, with their mode and owner; here that is made sure of.
fn excluded_dirs(work: &mut Installation, journal: &Journal) -> anyhow::Result<()> {
    let root = open_root(&work.plan)?;
    for path in &work.plan.spec.excluded {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        if root.real_dir(path).is_ok() {
            journal.news(
                Step::ExcludedDirs,
                format!("{} is empty in the clone", path.display()),
            );
        } else {
            journal.warning(
                Step::ExcludedDirs,
                format!("{} did not come with the tree", path.display()),
            );
        }
    }
    Ok(())
}

fn swap_files(work: &mut Installation, journal: &Journal) -> anyhow::Result<()> {
    let root = open_root(&work.plan)?;
    for spec in &work.plan.spec.swap_files {
        let path = Path::new(&spec.path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            continue;
        };
        let Ok(dir) = root.real_dir(parent) else {
            journal.warning(
                Step::SwapFiles,
                format!("{} not made: its directory stayed at home", spec.path),
            );
            continue;
        };
        journal.news(Step::SwapFiles, &spec.path);
        let spec = SwapFileSpec {
            path: name.to_string_lossy().into_owned(),
            ..spec.clone()
        };
        keeping_times(&dir, || Ok(fs::make_swap_file(&dir, &spec)?))?;
    }
    Ok(())
}

/// Runs `change` and gives the directory it changes the times back that it was restored with.
fn keeping_times(dir: &Path, change: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let doing = || format!("keeping the times of {}", dir.display());
    let meta = dir.metadata().with_context(doing)?;
    change()?;
    let times = FileTimes::new()
        .set_accessed(meta.accessed()?)
        .set_modified(meta.modified()?);
    File::open(dir)
        .and_then(|dir| dir.set_times(times))
        .with_context(doing)
}

fn rewrite_fstab(work: &mut Installation, journal: &Journal) -> anyhow::Result<()> {
    let root = open_root(&work.plan)?;
    let mut file = match root.open_file(Path::new("/etc/fstab"), OFlags::RDONLY) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            journal.warning(Step::Fstab, "the clone has no /etc/fstab");
            return Ok(());
        }
        Err(error) => return Err(error).context("opening the clone's /etc/fstab"),
    };
    let mut text = Vec::new();
    let reading = Read::by_ref(&mut file)
        .take(MAX_FSTAB_BYTES)
        .read_to_end(&mut text);
    reading.context("reading the clone's /etc/fstab")?;
    let plan = fstab::plan(&text, &device_maps(work)?)?;
    if plan.text != text {
        replace_content(&root, &file, &plan.text).context("writing the clone's /etc/fstab")?;
    }
    for change in &plan.changes {
        journal.news(
            Step::Fstab,
            format!("line {}: {} becomes {}", change.line, change.before, change.after),
        );
    }
    Ok(())
}

/// Writes into the existing file, which keeps its owner, mode, attributes and, when it has one, its immutable flag.
fn replace_content(root: &Root, file: &File, text: &[u8]) -> io::Result<()> {
    let locked = IFlags::IMMUTABLE | IFlags::APPEND;
    let flags = ioctl_getflags(file).unwrap_or(IFlags::empty());
    if flags.intersects(locked) {
        ioctl_setflags(file, flags - locked)?;
    }
    let mut writable = root.open_file(Path::new("/etc/fstab"), OFlags::WRONLY | OFlags::TRUNC)?;
    writable.write_all(text).and_then(|()| writable.sync_all())?;
    if flags.intersects(locked) {
        ioctl_setflags(file, flags)?;
    }
    Ok(())
}

/// Which golden device became which of ours: for every file system, swap area and raw partition that the golden
/// node has.
fn device_maps(work: &Installation) -> anyhow::Result<Vec<DeviceMap>> {
    let plan = &work.plan;
    let mut maps = Vec::new();
    for ((id, identity), fs) in work.identities.iter().zip(&plan.spec.filesystems) {
        if *id != fs.id {
            bail!("file system {id} was made in the place of {}", fs.id);
        }
        let Some(golden) = &fs.golden else { continue };
        let mut clone = partition_names(plan, &fs.place.drive, fs.place.partition)?;
        clone.path = identity.path.display().to_string();
        clone.uuid.clone_from(&identity.uuid);
        clone.label.clone_from(&identity.label);
        clone.fstype = Some(fs.fstype.name().to_owned());
        maps.push(DeviceMap {
            golden: golden.clone(),
            clone,
            options: changed_options(fs),
        });
    }
    maps.extend(raw_maps(plan, &plan.spec)?);
    Ok(maps)
}

/// A raw copy keeps everything inside the partition (UUID, label, type); only the partition's own names are new.
fn raw_maps(plan: &ClonePlan, spec: &InstallSpec) -> anyhow::Result<Vec<DeviceMap>> {
    spec.raw
        .iter()
        .map(|raw| {
            let mut clone = partition_names(plan, &raw.place.drive, raw.place.partition)?;
            clone.path = plan.raw_target(raw)?.0.display().to_string();
            clone.uuid.clone_from(&raw.golden.uuid);
            clone.label.clone_from(&raw.golden.label);
            Ok(DeviceMap {
                golden: raw.golden.clone(),
                clone,
                options: Vec::new(),
            })
        })
        .collect()
}

fn partition_names(plan: &ClonePlan, drive: &str, number: u32) -> anyhow::Result<CloneDevice> {
    let table = &plan.disk(drive)?.partitions.table;
    let partition = table
        .find(number)
        .with_context(|| format!("{drive} has no partition {number}"))?;
    Ok(CloneDevice {
        partuuid: table.partuuid(partition),
        partlabel: partition.name.clone(),
        ..CloneDevice::default()
    })
}

fn changed_options(fs: &FsSpec) -> Vec<(String, String)> {
    let changed = fs.mounts.iter().filter(|mount| mount.options_changed);
    changed
        .map(|mount| (mount.path.clone(), mount.options.clone()))
        .collect()
}

/// What the clone tells at its first boot, where the server waits for it.
fn leave_beacon(work: &mut Installation, journal: &Journal) -> anyhow::Result<()> {
    let Some(facts) = &work.beacon else { return Ok(()) };
    if let Err(why) = facts.leave_in(&open_root(&work.plan)?)? {
        journal.news(Step::Beacon, why);
    }
    Ok(())
}

/// Writes everything back, and hears of what could not be: a disk that dies here must not pass for a clone.
fn sync(work: &mut Installation, _journal: &Journal) -> anyhow::Result<()> {
    for (root, watch) in &work.watches {
        syncfs(watch).with_context(|| format!("writing {} to the disk", root.display()))?;
    }
    Ok(())
}

fn unmount(work: &mut Installation, _journal: &Journal) -> anyhow::Result<()> {
    work.watches.clear();
    work.take_mounts().map_or(Ok(()), |mounts| Ok(mounts.unmount()?))
}

/// The first drive holds what boots: its table comes last of all.
fn write_table(work: &mut Installation, journal: &Journal) -> anyhow::Result<()> {
    for (held, planned) in work.disks.iter_mut().zip(&work.plan.disks).rev() {
        journal.news(Step::WriteTable, held.path().display().to_string());
        held.write_table(planned.boot_code.as_ref())?;
    }
    Ok(())
}

fn verify(work: &mut Installation, _journal: &Journal) -> anyhow::Result<()> {
    work.disks.iter().try_for_each(HeldDisk::verify_table)?;
    work.disks.iter_mut().for_each(HeldDisk::finish);
    Ok(())
}

fn open_root(plan: &ClonePlan) -> anyhow::Result<Root> {
    Root::open(&plan.mount_dir).with_context(|| format!("opening {}", plan.mount_dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clone::build::BUILD;

    #[test]
    fn the_table_comes_after_everything_that_can_fail_and_steps_keep_their_published_order() {
        let steps: Vec<Step> = BUILD.iter().chain(&FINISH).map(|def| def.step).collect();
        let published = [
            Step::Partition,
            Step::Format,
            Step::Mount,
            Step::ExcludedDirs,
            Step::SwapFiles,
            Step::Fstab,
            Step::Beacon,
            Step::Sync,
            Step::Unmount,
            Step::WriteTable,
            Step::Verify,
        ];
        assert_eq!(steps, published);
    }

    #[test]
    fn a_directory_keeps_its_times_when_a_file_is_made_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
        File::open(dir.path())
            .unwrap()
            .set_times(FileTimes::new().set_modified(old))
            .unwrap();
        keeping_times(dir.path(), || Ok(std::fs::write(dir.path().join("swap"), "x")?)).unwrap();
        assert_eq!(dir.path().metadata().unwrap().modified().unwrap(), old);
    }

    #[test]
    fn an_immutable_fstab_is_rewritten_and_stays_immutable() {
        let dir = tempfile::Builder::new()
            .tempdir_in(env!("CARGO_MANIFEST_DIR"))
            .unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let path = dir.path().join("etc/fstab");
        std::fs::write(&path, "old and longer").unwrap();
        let root = Root::open(dir.path()).unwrap();
        let file = File::open(&path).unwrap();
        let Ok(plain) = ioctl_getflags(&file) else { return };
        ioctl_setflags(&file, plain | IFlags::IMMUTABLE).unwrap();
        replace_content(&root, &file, b"new").unwrap();
        let after = ioctl_getflags(&file).unwrap();
        ioctl_setflags(&file, plain).unwrap();
        assert!(after.contains(IFlags::IMMUTABLE));
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }
}
