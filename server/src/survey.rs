//! The survey of the golden node before a run: its drives, its way to boot, and the names of the streams.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use ka_disk::golden::{self, SurveyError};
use ka_disk::spec::{BootSpec, InstallSpec};
use ka_host::mountinfo;
use ka_postinstall::chroot;
use ka_postinstall::golden_boot::{self, Known};
use ka_postinstall::rehearsal;
use ka_postinstall::root::Root;

use crate::failure::Failure;
use crate::settings::{CloneJob, Settings};

/// The kernel's view of the machine (sysfs).
const SYS: &str = "/sys";

/// Surveys the golden node and names the streams after the session.
///
/// # Errors
/// The process is not root, or the golden node cannot be cloned as requested. Each error names the line,
/// device or option.
pub(crate) fn survey(job: &CloneJob, settings: &Settings) -> Result<InstallSpec, Failure> {
    let options = &job.survey;
    if !ka_host::system::is_root() {
        let reason = "cloning reads every file and partition of this machine; run ka-server as root";
        return Err(Failure::NothingDone(anyhow!(reason)));
    }
    let mut spec = golden::survey(options).map_err(|error| match error {
        // The operator's input does not fit this machine. Any other error is a fault of this machine.
        SurveyError::Root { .. }
        | SurveyError::Desc { .. }
        | SurveyError::NoPlace { .. }
        | SurveyError::Option { .. } => Failure::Usage(error.into()),
        error => Failure::NothingDone(error.into()),
    })?;
    // Session 1 is the plan itself, as in the original. The data streams count from 2.
    for (number, stream) in (2..).zip(&mut spec.streams) {
        stream.name = format!("{}{number}", settings.session);
    }
    spec.verify = job.verify;
    spec.boot = BootSpec {
        keep_identity: settings.boot.keep_identity,
        kernel_names: settings.boot.kernel_names,
        hooks: true,
        golden_cards: golden_cards(&options.root),
        ..BootSpec::default().with_loader_option(options.boot_loader.as_deref())
    };
    learn_boot(&mut spec, &options.root).map_err(Failure::NothingDone)?;
    Ok(spec)
}

/// Returns the network cards of this machine if it is the golden node itself.
fn golden_cards(root: &Path) -> Vec<String> {
    if root != Path::new("/") {
        return Vec::new();
    }
    let cards = ka_host::netif::cards(Path::new("/sys"));
    cards.into_iter().map(|card| card.to_string()).collect()
}

/// Adds the golden node's way to boot to `spec`. So a node can tell before its first write if it could boot,
/// and the server if any clone could.
fn learn_boot(spec: &mut InstallSpec, root: &Path) -> Result<()> {
    let files = Root::open(root).with_context(|| format!("opening the golden root {}", root.display()))?;
    let is_own = root.canonicalize().is_ok_and(|root| root == Path::new("/"));
    let golden = spec.filesystems.iter().filter_map(|fs| fs.golden.as_ref());
    let known = Known {
        uuids: golden.filter_map(|device| device.uuid.clone()).collect(),
        started: is_own.then(|| chroot::started_program(Path::new(SYS))).flatten(),
    };
    spec.boot.golden = golden_boot::detect(&files, &known);
    let notes = golden_boot::check(&files, &spec.boot)?;
    spec.notes.extend(notes);
    let rehearsal = rehearsal::check(&files, spec, &|path| files.is_executable(path))?;
    spec.notes.extend(rehearsal.notes);
    spec.boot.golden.uefi_obstacle = rehearsal.uefi_obstacle;
    check_boot_travels(spec, root)
}

/// Checks that the directories with kernels, modules and the boot loader are part of the clone.
fn check_boot_travels(spec: &InstallSpec, root: &Path) -> Result<()> {
    if spec.boot.loader.as_deref() == Some("none") {
        return Ok(());
    }
    let mounts = mountinfo::read().unwrap_or_default();
    let esp = spec.boot.golden.esp.as_deref();
    for place in ["/boot", "/lib/modules", "/usr/lib/modules"]
        .into_iter()
        .chain(esp)
    {
        let excluded = spec
            .excluded
            .iter()
            .map(|path| Path::new(OsStr::from_bytes(path)));
        if let Some(excluded) = excluded
            .into_iter()
            .find(|excluded| Path::new(place).starts_with(excluded))
        {
            bail!(
                "-x {}: a clone without {place} could not boot; leave it out of -x, or clone without a boot loader (-r none)",
                excluded.display()
            );
        }
        let Ok(here) = below(root, Path::new(place)).canonicalize() else {
            continue;
        };
        let is_mount = mountinfo::find_at(&mounts, &here).is_some();
        let travels = spec.trees.iter().any(|tree| {
            below(root, Path::new(&tree.path))
                .canonicalize()
                .is_ok_and(|dir| dir == here)
        });
        if is_mount && !travels {
            bail!(
                "{place} is a file system of its own that is not cloned, and without it a clone could not boot: give it a line in \
                 /etc/fstab without noauto, or clone without a boot loader (-r none)"
            );
        }
    }
    Ok(())
}

/// Returns the most bytes that the largest stream may carry.
pub(crate) fn largest_stream(spec: &InstallSpec) -> u64 {
    let tree: u64 = spec.trees.iter().map(|tree| tree.used_bytes).sum();
    spec.raw.iter().map(|raw| raw.bytes).fold(tree, u64::max)
}

/// Returns the path below `root` of an absolute path of the golden system.
pub(crate) fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::below;

    #[test]
    fn golden_paths_stay_below_the_golden_root() {
        assert_eq!(
            below(Path::new("/mnt/golden"), Path::new("/home")),
            Path::new("/mnt/golden/home")
        );
        assert_eq!(below(Path::new("/"), Path::new("/")), Path::new("/"));
        assert_eq!(below(Path::new("/mnt"), Path::new("/")), Path::new("/mnt/"));
    }
}
