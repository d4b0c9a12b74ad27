//! Directories that mounting makes: they are in the clone although no stream brings them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::spec::{FsFeatures, FsSpec, InstallSpec};

/// Returns the mount points of the clone, its subvolumes as each of its mounts shows them, and the
/// directories on the way to both, as absolute paths in the clone. The read-back of a clone finds them even
/// in directories that travelled empty (`-x`).
#[must_use]
pub fn made_directories(spec: &InstallSpec) -> Vec<PathBuf> {
    let mut made = BTreeSet::new();
    for fs in &spec.filesystems {
        for mount in &fs.mounts {
            add_with_parents(&mut made, Path::new(&mount.path), Path::new("/"));
        }
        add_subvolumes(&mut made, fs);
    }
    made.into_iter().collect()
}

fn add_subvolumes(made: &mut BTreeSet<PathBuf>, fs: &FsSpec) {
    let FsFeatures::Btrfs(features) = &fs.features else {
        return;
    };
    for subvolume in &features.subvolumes {
        for mount in &fs.mounts {
            let seen = mount.subvol.as_deref().unwrap_or("");
            if let Ok(below) = Path::new(subvolume).strip_prefix(seen) {
                let top = Path::new(&mount.path);
                add_with_parents(made, &top.join(below), top);
            }
        }
    }
}

/// Adds `path` and the directories between it and `top`.
fn add_with_parents(made: &mut BTreeSet<PathBuf>, path: &Path, top: &Path) {
    let way = path.ancestors().take_while(|path| *path != top);
    made.extend(way.map(Path::to_owned));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs_type::FsType;
    use crate::spec::{BtrfsFeatures, MountSpec, Place};

    fn mount(path: &str, subvol: &str) -> MountSpec {
        MountSpec {
            path: path.to_owned(),
            options: String::new(),
            options_changed: false,
            subvol: Some(subvol.to_owned()),
            mode: 0o755,
            uid: 0,
            gid: 0,
        }
    }

    #[test]
    fn the_way_to_mount_points_and_to_subvolumes_in_every_view_is_ours() {
        let place = Place {
            drive: "sda".to_owned(),
            partition: 1,
        };
        let subvolumes = ["@", "@/.snapshots", "@/.snapshots/1/snapshot"];
        let fs = FsSpec {
            features: FsFeatures::Btrfs(BtrfsFeatures {
                subvolumes: subvolumes.map(str::to_owned).to_vec(),
                ..BtrfsFeatures::default()
            }),
            mounts: vec![
                mount("/", "@/.snapshots/1/snapshot"),
                mount("/.snapshots", "@/.snapshots"),
                mount("/mnt/top", ""),
            ],
            ..FsSpec::new(0, place, FsType::Btrfs)
        };
        let spec = InstallSpec {
            filesystems: vec![fs],
            ..InstallSpec::empty(String::new())
        };
        let made: Vec<String> = made_directories(&spec)
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        assert_eq!(
            made,
            [
                "/.snapshots",
                "/.snapshots/1",
                "/.snapshots/1/snapshot",
                "/mnt",
                "/mnt/top",
                "/mnt/top/@",
                "/mnt/top/@/.snapshots",
                "/mnt/top/@/.snapshots/1",
                "/mnt/top/@/.snapshots/1/snapshot",
            ]
        );
    }
}
