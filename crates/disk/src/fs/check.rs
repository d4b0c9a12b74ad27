//! The check of a node's tools and drivers before anything is written to its disk.

use ka_host::{run, system};
use serde::{Deserialize, Serialize};

use super::{FsError, mkfs};
use crate::fs_type::FsType;
use crate::spec::{FsFeatures, FsSpec, InstallSpec};

/// A tool that a node needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequiredTool {
    /// Name of the program.
    pub program: String,
    /// Debian package that contains it.
    pub package: String,
    /// Mount point and type that need it: `/home (xfs)`.
    pub needed_for: String,
}

/// Returns the tools that a node needs for the spec, each once.
#[must_use]
pub fn required_tools(spec: &InstallSpec) -> Vec<RequiredTool> {
    let mut tools: Vec<RequiredTool> = Vec::new();
    let mut need = |program: &str, package: &str, needed_for: String| {
        if !tools.iter().any(|known| known.program == program) {
            tools.push(RequiredTool {
                program: program.to_owned(),
                package: package.to_owned(),
                needed_for,
            });
        }
    };
    for fs in &spec.filesystems {
        need(fs.fstype.mkfs_program(), fs.fstype.package(), needed_for(fs));
        match (fs.fstype, &fs.features) {
            (FsType::Jfs, _) if fs.uuid.is_some() => need("jfs_tune", "jfsutils", needed_for(fs)),
            (_, FsFeatures::Ext(_)) => need("tune2fs", "e2fsprogs", needed_for(fs)),
            (_, FsFeatures::Btrfs(_)) => need("btrfs", "btrfs-progs", needed_for(fs)),
            _ => {}
        }
    }
    if let Some(file) = spec.swap_files.first() {
        need("mkswap", "util-linux", format!("the swap file {}", file.path));
    }
    if !spec.filesystems.is_empty() || !spec.raw.is_empty() {
        need("blkid", "util-linux", "the clone's fstab".to_owned());
    }
    tools
}

/// Checks that this machine has the tools and kernel drivers for the spec, and that every label fits its
/// type.
///
/// # Errors
/// [`FsError`] for the first condition that does not hold.
pub fn check_node(spec: &InstallSpec) -> Result<(), FsError> {
    for tool in required_tools(spec) {
        if run::find(&tool.program).is_none() {
            let RequiredTool {
                program,
                package,
                needed_for,
            } = tool;
            return Err(FsError::MissingTool {
                program,
                package,
                needed_for,
            });
        }
    }
    for fs in &spec.filesystems {
        mkfs::check_label(fs)?;
        if fs.fstype.is_mountable() && !fs.mounts.is_empty() && !system::kernel_mounts(fs.fstype.name()) {
            return Err(FsError::NoDriver {
                fstype: fs.fstype.to_string(),
                needed_for: needed_for(fs),
            });
        }
    }
    Ok(())
}

fn needed_for(fs: &FsSpec) -> String {
    match fs.mounts.first() {
        Some(mount) => format!("{} ({})", mount.path, fs.fstype),
        None => format!("{} ({})", fs.place, fs.fstype),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{ExtFeatures, MountSpec, Place};

    fn mounted(id: u32, fstype: FsType, path: &str) -> FsSpec {
        let place = Place {
            drive: "sda".to_owned(),
            partition: id + 1,
        };
        let mount = MountSpec {
            path: path.to_owned(),
            options: "defaults".to_owned(),
            options_changed: false,
            subvol: None,
            mode: 0o755,
            uid: 0,
            gid: 0,
        };
        FsSpec {
            mounts: vec![mount],
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
    fn every_tool_is_asked_for_once_with_its_package() {
        let root = FsSpec {
            features: FsFeatures::Ext(ExtFeatures::default()),
            ..mounted(0, FsType::Ext4, "/")
        };
        let jfs = FsSpec {
            uuid: Some("x".to_owned()),
            ..mounted(1, FsType::Jfs, "/j")
        };
        let found = required_tools(&spec(vec![root, jfs, mounted(2, FsType::Ext3, "/home")]));
        let names: Vec<(&str, &str)> = found
            .iter()
            .map(|tool| (tool.program.as_str(), tool.package.as_str()))
            .collect();
        assert_eq!(
            names,
            [
                ("mke2fs", "e2fsprogs"),
                ("tune2fs", "e2fsprogs"),
                ("mkfs.jfs", "jfsutils"),
                ("jfs_tune", "jfsutils"),
                ("blkid", "util-linux")
            ]
        );
        assert_eq!(found[0].needed_for, "/ (ext4)");
    }

    #[test]
    fn a_type_that_the_kernel_cannot_mount_is_refused_before_anything_is_written() {
        let unknown = FsType::ALL.into_iter().find(|fstype| {
            fstype.is_mountable()
                && run::find(fstype.mkfs_program()).is_some()
                && !system::kernel_mounts(fstype.name())
        });
        // A kernel that has every driver cannot refuse any type.
        let Some(fstype) = unknown else { return };
        let error = check_node(&spec(vec![mounted(0, fstype, "/data")]))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(&format!("this kernel cannot mount {fstype}")),
            "{error}"
        );
        assert!(
            error.contains(&format!("/data ({fstype})")) && error.contains("fs="),
            "{error}"
        );
        check_node(&spec(vec![mounted(0, FsType::Ext4, "/data")])).unwrap();
    }
}
