//! Checks of this machine before the survey of the golden node: ports must be free, and directories must take
//! files. All obstacles are reported at once. `--dry-run` reports them too; it takes and writes nothing.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use ka_disk::spec::InstallSpec;
use ka_transport::Server;
use rustix::fs::{Access, access};

use crate::cli::{FileOptions, NetworkOptions, Options};
use crate::failure::{Failure, Faults};
use crate::settings::{PxePlan, Settings};

/// Checks the options and the needs of the boot server. If they are wrong, the obstacles on this machine are
/// reported with them. Returns the settings, and notes for the operator.
pub(crate) fn check(options: &Options) -> Result<(Settings, Vec<String>), Failure> {
    let settings = Settings::check(options);
    let plan = settings
        .as_ref()
        .ok()
        .and_then(|settings| settings.boot.pxe.as_ref());
    let warnings = plan.map_or(Ok(Vec::new()), PxePlan::check_needs);
    match (settings, warnings) {
        (Ok(settings), Ok(warnings)) => Ok((settings, warnings)),
        (Ok(settings), Err(error)) => Err(wrong(error, options, Some(&settings))),
        (Err(error), _) => Err(wrong(error, options, None)),
    }
}

fn wrong(error: anyhow::Error, options: &Options, settings: Option<&Settings>) -> Failure {
    let plan = settings.and_then(|settings| settings.boot.pxe.as_ref());
    let mut all = Faults::default();
    all.add(error);
    all.add(faults(&options.network, &options.files, plan).into());
    Failure::Usage(all.into())
}

/// Checks the settings that depend on the surveyed golden node.
pub(crate) fn check_surveyed(
    settings: &Settings,
    root: &Path,
    spec: &InstallSpec,
    largest: u64,
) -> Result<()> {
    let mut faults = Faults::default();
    faults.keep(settings.check_spool(Some(largest)));
    faults.keep(settings.boot.check_surveyed(root, spec));
    faults.check()
}

/// Finds the obstacles of a run on this machine: busy ports, those of the boot server too if its plan is good,
/// and directories that take no files.
pub(crate) fn faults(network: &NetworkOptions, files: &FileOptions, plan: Option<&PxePlan>) -> Faults {
    let mut faults = Faults::default();
    faults.keep(check_listen(network));
    for busy in plan.map(PxePlan::check_ports).unwrap_or_default() {
        faults.add(busy);
    }
    let log_dir = files.log_dir.as_deref().map(|dir| ("--log-dir", dir));
    for (option, dir) in [("--state-dir", files.state_dir.as_path())]
        .into_iter()
        .chain(log_dir)
    {
        faults.keep(check_dir(dir).with_context(|| format!("{option} {}", dir.display())));
    }
    if let Some(file) = &files.join_file {
        faults.keep(check_file(file).with_context(|| format!("--join-file {}", file.display())));
    }
    faults
}

fn check_listen(network: &NetworkOptions) -> Result<()> {
    Server::check_listen(network.listen, network.control_port)?;
    Ok(())
}

/// Checks that a directory takes files or, if it does not exist, that its nearest existing parent does.
fn check_dir(dir: &Path) -> Result<()> {
    let dir = std::path::absolute(dir)?;
    let there = dir.ancestors().find(|dir| dir.symlink_metadata().is_ok());
    let there = there.unwrap_or(Path::new("/"));
    // Follows links: a dangling link is an obstacle.
    let what = there
        .metadata()
        .with_context(|| format!("looking at {}", there.display()))?;
    if !what.is_dir() {
        bail!("{} is not a directory", there.display());
    }
    access(there, Access::WRITE_OK | Access::EXEC_OK)
        .with_context(|| format!("nothing can be written in {}", there.display()))
}

fn check_file(file: &Path) -> Result<()> {
    if file.is_dir() || file.file_name().is_none_or(OsStr::is_empty) {
        bail!("this is a directory; name a file");
    }
    let dir = file.parent().map_or_else(PathBuf::new, Path::to_owned);
    let dir = if dir.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        dir
    };
    if !dir.is_dir() {
        bail!("there is no directory {}", dir.display());
    }
    check_dir(&dir)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_directory_is_there_or_can_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "x").unwrap();
        symlink(at("nowhere"), at("dangling")).unwrap();
        assert!(check_dir(dir.path()).is_ok());
        assert!(check_dir(&at("new/deeper")).is_ok());
        for name in ["file", "file/below", "dangling", "dangling/below"] {
            assert!(check_dir(&at(name)).is_err(), "{name}");
        }
        // This is no directory, also for root.
        assert!(check_dir(Path::new("/proc/version/x")).is_err());
        assert!(check_file(&at("join")).is_ok());
        for name in ["", "none/join", "file/join"] {
            assert!(check_file(&at(name)).is_err(), "{name}");
        }
    }
}
