//! What the golden fstab mounts, checked against what is mounted now.

mod mounts;
mod plain;
mod swaps;

use std::fs;
use std::path::{Path, PathBuf};

use ka_host::mountinfo;

use super::SurveyError;
use super::classify::{LineKind, classify};
use super::device::Named;
use crate::fstab::{self, FstabEntry};
use crate::spec::{FsType, GoldenDevice, SwapFileSpec};

/// A mount point that is to be cloned.
#[derive(Debug, Clone)]
pub(super) struct FoundMount {
    pub(super) mount_point: String,
    /// As fstab has them, but subvolumes by name.
    pub(super) options: String,
    /// As fstab has them.
    pub(super) fstab_options: String,
    /// What fstab and the device call it.
    pub(super) golden: GoldenDevice,
    /// Drive and partition it is on; `None` on LVM, LUKS, md, a whole disk, or in a plain directory.
    pub(super) on: Option<(String, u32)>,
    /// `None` for a tree that lies in a directory of another file system.
    pub(super) device: Option<Named>,
    pub(super) fstype: FsType,
    /// Where it is to be read: the mount point below the golden root.
    pub(super) source: PathBuf,
    /// The btrfs subvolume seen there, without a leading slash; empty for the top level.
    pub(super) subvol: Option<String>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) used_bytes: u64,
    pub(super) used_inodes: u64,
}

impl FoundMount {
    /// What the device tells; the line and the directory fill in the rest.
    fn blank(
        golden: GoldenDevice,
        on: Option<(String, u32)>,
        device: Option<Named>,
        fstype: FsType,
        subvol: Option<String>,
    ) -> Self {
        Self {
            mount_point: String::new(),
            options: String::new(),
            fstab_options: String::new(),
            golden,
            on,
            device,
            fstype,
            source: PathBuf::new(),
            subvol,
            mode: 0,
            uid: 0,
            gid: 0,
            used_bytes: 0,
            used_inodes: 0,
        }
    }
}

/// A swap area that fstab names.
#[derive(Debug, Clone)]
pub(super) struct FoundSwap {
    pub(super) golden: GoldenDevice,
    pub(super) on: Option<(String, u32)>,
}

/// Everything that fstab names.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) mounts: Vec<FoundMount>,
    pub(super) swaps: Vec<FoundSwap>,
    pub(super) swap_files: Vec<SwapFileSpec>,
    pub(super) notes: Vec<String>,
}

/// Looks at one golden root.
pub(super) struct Finder<'a> {
    /// The root, resolved.
    pub(super) root: &'a Path,
    /// `etc/fstab` below it.
    pub(super) fstab: PathBuf,
    /// Kernel names of the disks that are left out.
    pub(super) excluded_disks: &'a [String],
    /// Kernel names of the partitions that are copied raw.
    pub(super) raw: &'a [String],
}

impl<'a> Finder<'a> {
    pub(super) fn new(root: &'a Path, excluded_disks: &'a [String], raw: &'a [String]) -> Self {
        Self {
            root,
            fstab: root.join("etc/fstab"),
            excluded_disks,
            raw,
        }
    }

    /// Follows every line of fstab.
    pub(super) fn find(&self) -> Result<Found, SurveyError> {
        let text = fs::read(&self.fstab).map_err(|error| SurveyError::Root {
            root: self.root.to_owned(),
            problem: format!(
                "reading its etc/fstab: {error}; --root must name the root directory of a golden system"
            ),
        })?;
        let mut found = Found::default();
        let entries = fstab::parse(&text);
        for entry in &entries {
            match classify(entry) {
                LineKind::Local | LineKind::Unsupported => {
                    let mount = self.mount(entry, &mut found.notes)?;
                    found.mounts.extend(mount);
                }
                LineKind::SwapFile => found.swap_files.extend(self.swap_file(entry, &mut found.notes)),
                LineKind::SwapDevice | LineKind::Foreign => {}
            }
        }
        self.add_root_without_line(&mut found)?;
        for entry in entries
            .iter()
            .filter(|entry| classify(entry) == LineKind::SwapDevice)
        {
            let swap = self.swap_device(entry, &mut found)?;
            found.swaps.extend(swap);
        }
        found
            .mounts
            .sort_by_key(|mount| (depth(&mount.mount_point), mount.mount_point.clone()));
        Ok(found)
    }

    /// A system whose root comes from the kernel command line alone may have no line for it.
    fn add_root_without_line(&self, found: &mut Found) -> Result<(), SurveyError> {
        if found.mounts.iter().any(|mount| mount.mount_point == "/") {
            return Ok(());
        }
        let entry = FstabEntry {
            line: 0,
            spec: String::new(),
            mount_point: "/".to_owned(),
            fstype: "auto".to_owned(),
            options: "defaults".to_owned(),
            fields: Vec::new(),
        };
        let mounts = mountinfo::read()?;
        let Some(info) = mountinfo::find_at(&mounts, self.root) else {
            let problem = "its etc/fstab has no line for /, and nothing is mounted there".to_owned();
            return Err(SurveyError::Root {
                root: self.root.to_owned(),
                problem,
            });
        };
        let device = self.device_of(&entry, info)?;
        if self.is_left_out(&device.block) {
            let problem = "its / is on a disk left out with -X, or copied raw with -D".to_owned();
            return Err(SurveyError::Root {
                root: self.root.to_owned(),
                problem,
            });
        }
        found
            .notes
            .push("etc/fstab has no line for /; what is mounted there is cloned all the same".to_owned());
        let mount = self.mounted_device(&entry, info, device)?;
        found.mounts.push(mount);
        Ok(())
    }

    fn below_root(&self, path: &str) -> PathBuf {
        let relative = path.trim_matches('/');
        if relative.is_empty() {
            self.root.to_owned()
        } else {
            self.root.join(relative)
        }
    }

    fn error(&self, entry: &FstabEntry, problem: String) -> SurveyError {
        SurveyError::Fstab {
            fstab: self.fstab.clone(),
            line: entry.line,
            problem,
        }
    }
}

fn depth(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}
