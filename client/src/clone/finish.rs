//! The finishing steps: what makes the restored tree a system of its own, then the table that makes it bootable.

use std::fs::{File, FileTimes};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Context;
use ka_disk::fs;
use ka_disk::spec::SwapFileSpec;
use ka_host::fiemap;
use ka_postinstall::facts::SwapFileFact;
use ka_postinstall::root::Root;
use ka_status::event::Step;
use rustix::fs::syncfs;

use super::build::Installation;
use super::configure;
use super::held::HeldDisk;
use super::plan::ClonePlan;
use crate::journal::Journal;
use crate::steps::StepDef;

/// What happens once every stream has arrived. At its end the clone is complete, and nothing boots from it.
pub(crate) const FINISH: [StepDef<Installation>; 14] = [
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
        run: configure::rewrite_fstab,
    },
    StepDef {
        step: Step::References,
        run: configure::rewrite_references,
    },
    StepDef {
        step: Step::Identity,
        run: configure::write_identity,
    },
    StepDef {
        step: Step::Modprobe,
        run: configure::write_modprobe,
    },
    StepDef {
        step: Step::Hooks,
        run: configure::post_restore_hooks,
    },
    StepDef {
        step: Step::Initramfs,
        run: configure::build_initramfs,
    },
    StepDef {
        step: Step::Beacon,
        run: configure::leave_beacon,
    },
    StepDef {
        step: Step::BootLoader,
        run: configure::install_boot_loader,
    },
    StepDef {
        step: Step::Hooks,
        run: configure::pre_boot_hooks,
    },
    StepDef {
        step: Step::StoreLog,
        run: configure::store_log,
    },
    StepDef {
        step: Step::Sync,
        run: last_sync,
    },
    StepDef {
        step: Step::Unmount,
        run: unmount,
    },
];

/// What happens once the server has judged this clone and all the others of the round. The table comes last but for its own
/// check: a run that stops anywhere before leaves a disk that nothing boots from.
pub(crate) const COMMIT: [StepDef<Installation>; 2] = [
    StepDef {
        step: Step::WriteTable,
        run: write_table,
    },
    StepDef {
        step: Step::Verify,
        run: verify,
    },
];

/// What happens when the server knows that the clone can be booted. Firmware may hold the whole machine for a minute while it
/// writes a variable: the connection may be lost over it, and the clone is done all the same.
pub(crate) const ENTER: [StepDef<Installation>; 1] = [StepDef {
    step: Step::BootEntry,
    run: configure::enter_in_firmware,
}];

/// Excluded directories came with the stream, empty, with their mode and owner; here that is made sure of.
fn excluded_dirs(work: &mut Installation, journal: &Journal) -> anyhow::Result<()> {
    configure::learn(work)?;
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
    let mut made = Vec::new();
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
        let in_dir = SwapFileSpec {
            path: name.to_string_lossy().into_owned(),
            ..spec.clone()
        };
        keeping_times(&dir, || Ok(fs::make_swap_file(&dir, &in_dir)?))?;
        made.push(SwapFileFact {
            path: spec.path.clone(),
            offset_pages: first_page(&dir.join(name)),
        });
    }
    if let Some(facts) = &mut work.facts {
        facts.swap_files = made;
    }
    Ok(())
}

/// Where a hibernated system finds the file (`resume_offset=`), in pages; none where the file system cannot tell.
fn first_page(path: &Path) -> Option<u64> {
    const BTRFS: u64 = 0x9123_683e;
    const PAGE_BYTES: u64 = 4096;
    let file = File::open(path).ok()?;
    // Btrfs answers in addresses of its own.
    let kind = rustix::fs::fstatfs(&file).ok()?.f_type;
    if u64::try_from(kind).ok()? == BTRFS {
        return None;
    }
    let place = fiemap::first_byte(&file).ok().flatten()?;
    Some(place / PAGE_BYTES)
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

/// Writes everything back, and hears of what could not be: a disk that dies here must not pass for a clone.
pub(super) fn sync(work: &mut Installation, _journal: &Journal) -> anyhow::Result<()> {
    for (root, watch) in &work.watches {
        syncfs(watch).with_context(|| format!("writing {} to the disk", root.display()))?;
    }
    Ok(())
}

/// The same when the clone is complete. What firmware boots by itself goes back onto the disk, of which no table tells now.
fn last_sync(work: &mut Installation, journal: &Journal) -> anyhow::Result<()> {
    if let Some(hidden) = work.hidden.take() {
        work.disks.iter().try_for_each(HeldDisk::withdraw_table)?;
        hidden.put_back()?;
    }
    sync(work, journal)
}

fn unmount(work: &mut Installation, _journal: &Journal) -> anyhow::Result<()> {
    work.watches.clear();
    if let Some(chroot) = work.chroot.take() {
        chroot.leave()?;
    }
    if let Some(mounts) = work.take_mounts() {
        mounts.unmount()?;
    }
    work.disks.iter().try_for_each(HeldDisk::withdraw_table)
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
        let steps: Vec<Step> = BUILD
            .iter()
            .chain(&FINISH)
            .chain(&COMMIT)
            .chain(&ENTER)
            .map(|def| def.step)
            .collect();
        let published = [
            Step::Partition,
            Step::Format,
            Step::Mount,
            Step::ExcludedDirs,
            Step::SwapFiles,
            Step::Fstab,
            Step::References,
            Step::Identity,
            Step::Modprobe,
            Step::Hooks,
            Step::Initramfs,
            Step::Beacon,
            Step::BootLoader,
            Step::Hooks,
            Step::StoreLog,
            Step::Sync,
            Step::Unmount,
            Step::WriteTable,
            Step::Verify,
            Step::BootEntry,
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
}
