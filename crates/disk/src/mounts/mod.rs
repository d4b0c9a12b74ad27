//! The clone's file systems, mounted under one directory in the right order.
//!
//! [`plan`] is pure. [`MountPlan::mount_all`] executes the plan and returns a guard that unmounts in reverse
//! order, also after an error half-way. The options serve the restore, not the clone's later life: nothing
//! read-only, no quota.

mod made;
mod options;
mod tree;

use std::path::PathBuf;

use ka_host::HostError;
use ka_host::run::RunError;
use serde::{Deserialize, Serialize};

pub use made::made_directories;
pub use tree::{Access, MountTree};

use crate::spec::{FsFeatures, FsSpec, InstallSpec};

/// One step of mounting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountStep {
    /// Makes subvolumes on a fresh btrfs, through its top level.
    MakeSubvolumes {
        /// Device node of the btrfs.
        device: PathBuf,
        /// Paths from the top level, parents first.
        subvolumes: Vec<String>,
        /// The subvolume to make the default.
        default: Option<String>,
    },
    /// Mounts a file system.
    Mount {
        /// Device node of the file system.
        device: PathBuf,
        /// Absolute path in the clone.
        path: String,
        /// Type for mount(2).
        fstype: String,
        /// Options for mount(2).
        options: String,
        /// Mode of the mounted directory.
        mode: u32,
        /// Owner of the mounted directory.
        uid: u32,
        /// Group of the mounted directory.
        gid: u32,
    },
}

/// The steps in order: all subvolumes, then mounts from the root down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPlan {
    /// Steps to execute from first to last.
    pub steps: Vec<MountStep>,
}

/// An error while the clone's file systems were mounted or unmounted.
#[derive(Debug, thiserror::Error)]
pub enum MountsError {
    /// A file system of the spec has no device.
    #[error("no device was given for {place}")]
    NoDevice {
        /// Golden name of the partition.
        place: String,
    },
    /// The mount directory is already a mount point.
    #[error("{} is a mount point already: unmount it, or choose another with --mount-dir", target.display())]
    TargetBusy {
        /// Directory below which the clone is mounted.
        target: PathBuf,
    },
    /// Mounting or unmounting failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The btrfs tool failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A directory or subvolume could not be made.
    #[error("making {}: {source}", path.display())]
    Make {
        /// Path of the directory or subvolume.
        path: PathBuf,
        /// The kernel's error.
        #[source]
        source: std::io::Error,
    },
}

/// Plans the mounts. `devices` gives the device node of each file system by its id.
///
/// # Errors
/// [`MountsError::NoDevice`].
pub fn plan(spec: &InstallSpec, devices: &[(u32, PathBuf)]) -> Result<MountPlan, MountsError> {
    let mut subvolumes = Vec::new();
    let mut mounts = Vec::new();
    for fs in spec.filesystems.iter().filter(|fs| !fs.mounts.is_empty()) {
        let device = devices
            .iter()
            .find(|(id, _)| *id == fs.id)
            .map(|(_, device)| device.clone());
        let device = device.ok_or_else(|| MountsError::NoDevice {
            place: fs.place.to_string(),
        })?;
        subvolumes.extend(subvolume_step(fs, &device));
        mounts.extend(fs.mounts.iter().map(|mount| MountStep::Mount {
            device: device.clone(),
            path: mount.path.clone(),
            fstype: fs.fstype.name().to_owned(),
            options: options::for_restore(fs.fstype, mount),
            mode: mount.mode,
            uid: mount.uid,
            gid: mount.gid,
        }));
    }
    mounts.sort_by_key(|step| match step {
        MountStep::Mount { path, .. } => (depth(path), path.clone()),
        MountStep::MakeSubvolumes { .. } => (0, String::new()),
    });
    Ok(MountPlan {
        steps: subvolumes.into_iter().chain(mounts).collect(),
    })
}

fn subvolume_step(fs: &FsSpec, device: &std::path::Path) -> Option<MountStep> {
    let FsFeatures::Btrfs(features) = &fs.features else {
        return None;
    };
    (!features.subvolumes.is_empty()).then(|| MountStep::MakeSubvolumes {
        device: device.to_owned(),
        subvolumes: features.subvolumes.clone(),
        default: features.default_subvolume.clone(),
    })
}

fn depth(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs_type::FsType;
    use crate::spec::{BtrfsFeatures, MountSpec, Place};

    fn mount(path: &str, options: &str, subvol: Option<&str>) -> MountSpec {
        MountSpec {
            path: path.to_owned(),
            options: options.to_owned(),
            options_changed: false,
            subvol: subvol.map(str::to_owned),
            mode: 0o755,
            uid: 0,
            gid: 0,
        }
    }

    fn fs(id: u32, fstype: FsType, features: FsFeatures, mounts: Vec<MountSpec>) -> FsSpec {
        let place = Place {
            drive: "sda".to_owned(),
            partition: id + 1,
        };
        FsSpec {
            features,
            mounts,
            ..FsSpec::new(id, place, fstype)
        }
    }

    fn spec(filesystems: Vec<FsSpec>) -> InstallSpec {
        InstallSpec {
            filesystems,
            ..InstallSpec::empty("golden".to_owned())
        }
    }

    #[test]
    fn parents_are_mounted_before_what_lies_in_them() {
        let spec = spec(vec![
            fs(
                0,
                FsType::Ext4,
                FsFeatures::Default,
                vec![mount("/home/data", "noatime", None)],
            ),
            fs(
                1,
                FsType::Xfs,
                FsFeatures::Default,
                vec![mount("/home", "ro,nofail,uquota", None)],
            ),
            fs(2, FsType::Swap, FsFeatures::Default, vec![]),
            fs(
                3,
                FsType::Ext4,
                FsFeatures::Default,
                vec![mount("/", "errors=remount-ro", None)],
            ),
        ]);
        let devices = [0, 1, 3].map(|id| (id, PathBuf::from(format!("/dev/sda{}", id + 1))));
        let plan = plan(&spec, &devices).unwrap();
        let seen: Vec<(&str, &str)> = plan
            .steps
            .iter()
            .filter_map(|step| match step {
                MountStep::Mount { path, options, .. } => Some((path.as_str(), options.as_str())),
                MountStep::MakeSubvolumes { .. } => None,
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("/", "noatime"),
                ("/home", "noatime,nouuid"),
                ("/home/data", "noatime")
            ]
        );
    }

    #[test]
    fn subvolumes_are_made_before_anything_is_mounted() {
        let features = BtrfsFeatures {
            node_size: 16384,
            subvolumes: vec!["@".to_owned(), "@home".to_owned()],
            default_subvolume: Some("@".to_owned()),
        };
        let mounts = vec![
            mount("/home", "compress=zstd,subvol=@home", Some("@home")),
            mount("/", "compress=zstd", Some("@")),
        ];
        let spec = spec(vec![fs(0, FsType::Btrfs, FsFeatures::Btrfs(features), mounts)]);
        let plan = plan(&spec, &[(0, PathBuf::from("/dev/sda1"))]).unwrap();
        assert!(
            matches!(&plan.steps[0], MountStep::MakeSubvolumes { default: Some(path), .. } if path == "@")
        );
        assert!(
            matches!(&plan.steps[1], MountStep::Mount { path, options, .. } if path == "/" && options == "compress=zstd,noatime,subvol=/@")
        );
    }

    #[test]
    fn a_file_system_without_a_device_is_named() {
        let spec = spec(vec![fs(
            4,
            FsType::Ext4,
            FsFeatures::Default,
            vec![mount("/", "", None)],
        )]);
        assert_eq!(
            plan(&spec, &[]).unwrap_err().to_string(),
            "no device was given for sda5"
        );
    }
}
