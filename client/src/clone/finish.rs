//! The finishing steps, which make the restored tree a system of its own. The steps that carry out a plan are
//! in [`super::configure`].

use std::fs::{File, FileTimes};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Context;
use ka_disk::fs;
use ka_disk::spec::SwapFileSpec;
use ka_host::fiemap;
use ka_postinstall::facts::SwapFileFact;
use ka_report::event::Step;

use super::configure;
use super::held::HeldDisk;
use super::system::RestoredSystem;
use crate::journal::Journal;
use crate::steps::StepDef;

/// The steps that follow the last stream. At their end the clone is complete, and nothing boots from it.
pub(crate) const FINISH: [StepDef<RestoredSystem>; 14] = [
    StepDef {
        step: Step::ExcludedDirs,
        run: check_excluded_dirs,
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

/// Checks the excluded directories. They came with the stream, empty, with their mode and owner. A missing
/// one is a warning, because its mode is not known.
fn check_excluded_dirs(system: &mut RestoredSystem, journal: &Journal) -> anyhow::Result<()> {
    let root = system.open_root()?;
    for path in &system.target.plan.spec.excluded {
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

fn swap_files(system: &mut RestoredSystem, journal: &Journal) -> anyhow::Result<()> {
    let root = system.open_root()?;
    let mut made = Vec::new();
    for spec in &system.target.plan.spec.swap_files {
        let path = Path::new(&spec.path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            continue;
        };
        let Ok(dir) = root.real_dir(parent) else {
            journal.warning(
                Step::SwapFiles,
                format!("{} was not made: its directory was not cloned", spec.path),
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
    system.facts.swap_files = made;
    Ok(())
}

/// Returns the file's first page on the device (`resume_offset=`), from which a hibernated system resumes;
/// none where the file system cannot tell.
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

/// Runs `change` and then restores the times of the directory that it changes.
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

/// Writes everything cached to the disks. What firmware boots by itself goes back onto the disk, of which no
/// table tells now.
fn last_sync(system: &mut RestoredSystem, _journal: &Journal) -> anyhow::Result<()> {
    if let Some(hidden) = system.hidden.take() {
        withdraw_tables(system)?;
        hidden.put_back()?;
    }
    system.target.sync()
}

fn unmount(system: &mut RestoredSystem, _journal: &Journal) -> anyhow::Result<()> {
    system.unmount()?;
    withdraw_tables(system)
}

fn withdraw_tables(system: &RestoredSystem) -> anyhow::Result<()> {
    system.target.disks.iter().try_for_each(HeldDisk::withdraw_table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clone::complete::{COMMIT, ENTER};
    use crate::clone::target::BUILD;

    fn names<B>(steps: &[StepDef<B>]) -> Vec<Step> {
        steps.iter().map(|def| def.step).collect()
    }

    #[test]
    fn the_table_comes_after_everything_that_can_fail_and_steps_keep_their_published_order() {
        let steps = [names(&BUILD), names(&FINISH), names(&COMMIT), names(&ENTER)].concat();
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
