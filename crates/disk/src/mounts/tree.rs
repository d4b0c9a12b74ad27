//! The execution of a mount plan, and its reversal.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ka_host::mount::MountGuard;
use ka_host::run::Tool;
use ka_host::{mountinfo, subvolume};

use super::{MountPlan, MountStep, MountsError};

const BTRFS_LIMIT: Duration = Duration::from_secs(60);

/// The mounted file systems of a clone; unmounts them in reverse order when dropped.
#[derive(Debug)]
#[must_use = "dropping it unmounts everything"]
pub struct MountTree {
    target: PathBuf,
    /// Guards in the order of mounting.
    guards: Vec<MountGuard>,
}

impl MountPlan {
    /// Mounts everything under `target`, which is made if it does not exist.
    ///
    /// # Errors
    /// [`MountsError`]; what was mounted before the error is unmounted.
    pub fn mount_all(&self, target: &Path) -> Result<MountTree, MountsError> {
        fs::create_dir_all(target).map_err(|source| MountsError::Make {
            path: target.to_owned(),
            source,
        })?;
        let target = target.canonicalize().map_err(|source| MountsError::Make {
            path: target.to_owned(),
            source,
        })?;
        if mountinfo::find_at(&mountinfo::read()?, &target).is_some() {
            return Err(MountsError::TargetBusy { target });
        }
        let mut tree = MountTree {
            target,
            guards: Vec::new(),
        };
        for step in &self.steps {
            tree.step(step)?;
        }
        Ok(tree)
    }
}

impl MountPlan {
    /// Mounts again what [`MountPlan::mount_all`] had mounted and filled; makes nothing and changes no
    /// rights. Read-only access writes not even a journal or an access time.
    ///
    /// # Errors
    /// [`MountsError::Host`]; what was mounted before the error is unmounted.
    pub fn mount_again(&self, target: &Path, access: Access) -> Result<MountTree, MountsError> {
        let mut tree = MountTree {
            target: target.to_owned(),
            guards: Vec::new(),
        };
        for step in &self.steps {
            if let MountStep::Mount {
                device,
                path,
                fstype,
                options,
                ..
            } = step
            {
                let at = target.join(path.trim_start_matches('/'));
                let options = match access {
                    Access::ReadOnly => format!("ro,{options}"),
                    Access::ReadWrite => options.clone(),
                };
                tree.guards
                    .push(MountGuard::mount(device, &at, fstype, &options)?);
            }
        }
        Ok(tree)
    }
}

/// Access to mounted file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing may be written, a journal included.
    ReadOnly,
    /// Files may be read and written.
    ReadWrite,
}

impl MountTree {
    /// Returns the directory under which everything is mounted, links resolved.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Unmounts everything in reverse order and reports the result.
    ///
    /// # Errors
    /// [`MountsError::Host`] with the first that could not be unmounted; the others are tried all the same.
    pub fn unmount(mut self) -> Result<(), MountsError> {
        let mut first_error = None;
        while let Some(guard) = self.guards.pop() {
            if let Err(error) = guard.unmount() {
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(()), |error| Err(error.into()))
    }

    fn step(&mut self, step: &MountStep) -> Result<(), MountsError> {
        match step {
            MountStep::MakeSubvolumes {
                device,
                subvolumes,
                default,
            } => {
                // Nothing is mounted at the target yet, because all these steps come first.
                let top = MountGuard::mount(device, &self.target, "btrfs", "subvol=/")?;
                for path in subvolumes {
                    make_subvolume(&self.target, path)?;
                }
                if let Some(path) = default {
                    set_default(&self.target.join(path))?;
                }
                top.unmount()?;
            }
            MountStep::Mount {
                device,
                path,
                fstype,
                options,
                mode,
                uid,
                gid,
            } => {
                let at = self.target.join(path.trim_start_matches('/'));
                make_directories(&self.target, path.trim_matches('/'))?;
                self.guards.push(MountGuard::mount(device, &at, fstype, options)?);
                own(&at, *mode, *uid, *gid).map_err(|source| MountsError::Make { path: at, source })?;
            }
        }
        Ok(())
    }
}

impl Drop for MountTree {
    fn drop(&mut self) {
        // A vector drops from its beginning, but the last mount must go first.
        while let Some(guard) = self.guards.pop() {
            drop(guard);
        }
    }
}

/// Makes one subvolume; a missing directory above it becomes a plain directory.
fn make_subvolume(top: &Path, path: &str) -> Result<(), MountsError> {
    let (parent, name) = path
        .rsplit_once('/')
        .map_or(("", path), |(parent, name)| (parent, name));
    make_directories(top, parent)?;
    let failed = |source| MountsError::Make {
        path: top.join(path),
        source,
    };
    let parent = File::open(top.join(parent)).map_err(failed)?;
    subvolume::create(parent.as_fd(), name.as_bytes()).map_err(failed)
}

fn set_default(path: &Path) -> Result<(), MountsError> {
    let tool = Tool::new("btrfs").describe(format!("making {} the default subvolume", path.display()));
    tool.args(["subvolume", "set-default"])
        .arg(path)
        .timeout(BTRFS_LIMIT)
        .run()?;
    Ok(())
}

/// Makes the directories of `relative` below `top`, readable by everybody: the restore gives them their
/// rights.
fn make_directories(top: &Path, relative: &str) -> Result<(), MountsError> {
    let mut path = top.to_owned();
    for part in relative.split('/').filter(|part| !part.is_empty()) {
        path.push(part);
        match DirBuilder::new().mode(0o755).create(&path) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(MountsError::Make { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Gives the mounted directory its rights. FAT has none to give (EPERM).
fn own(path: &Path, mode: u32, uid: u32, gid: u32) -> io::Result<()> {
    let without_fat = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other,
    };
    without_fat(chown(path, Some(uid), Some(gid)))?;
    without_fat(fs::set_permissions(path, fs::Permissions::from_mode(mode)))
}
