//! The mounts of the golden fstab, checked against what is mounted now.

mod mounts;
mod plain;
mod swaps;
mod unnamed;

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use ka_host::mountinfo;

use super::classify::{LineKind, classify};
use super::device::{Drive, Named};
use super::usage::Usage;
use super::{SurveyError, usage};
use crate::fs_type::FsType;
use crate::fstab::{self, FstabEntry};
use crate::spec::{GoldenDevice, SwapFileSpec};
use crate::table::KnownType;

/// A mount point that is to be cloned.
#[derive(Debug, Clone)]
pub(super) struct FoundMount {
    pub(super) mount_point: String,
    /// Options as in fstab, but with subvolumes by name.
    pub(super) options: String,
    /// Options exactly as in fstab.
    pub(super) fstab_options: String,
    /// The device, with its names in fstab and on the device itself.
    pub(super) golden: GoldenDevice,
    /// Drive and partition it is on; `None` on LVM, LUKS, md, a whole disk, or in a plain directory.
    pub(super) on: Option<(String, u32)>,
    /// `None` for a tree that lies in a directory of another file system.
    pub(super) device: Option<Named>,
    pub(super) fstype: FsType,
    /// Directory to read it from: the mount point below the golden root.
    pub(super) source: PathBuf,
    /// The btrfs subvolume mounted there, without a leading slash; empty for the top level.
    pub(super) subvol: Option<String>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) used_bytes: u64,
    pub(super) used_inodes: u64,
    /// Block size in bytes; 0 if it is not known.
    pub(super) block_bytes: u32,
}

impl FoundMount {
    /// Returns the facts that the device tells; the caller adds those of the line and the directory.
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
            block_bytes: 0,
        }
    }
}

impl FoundMount {
    fn using(self, usage: Usage) -> Self {
        Self {
            used_bytes: usage.bytes,
            used_inodes: usage.inodes,
            block_bytes: usage.block_bytes,
            ..self
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

/// The operator's options that decide what is looked for.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// Kernel names of the disks that are left out (`-X`).
    pub(super) excluded_disks: Vec<String>,
    /// Kernel names of the partitions that are copied raw (`-D`).
    pub(super) raw: Vec<String>,
    /// Directories whose contents are not cloned (`-x`).
    pub(super) excluded: Vec<PathBuf>,
    /// Mount points that desc files name.
    pub(super) wanted: Vec<String>,
    /// Kernel names of the drives that have a desc file.
    pub(super) described: Vec<String>,
    /// True if clones are to boot from their own disks; false with `-r none`.
    pub(super) bootable: bool,
}

/// True for mount points that a system boots from: kernels and boot loaders, or the EFI system partition.
pub(super) fn is_boot_place(mount_point: &str) -> bool {
    let places = ["/boot", "/boot/efi", "/boot/firmware", "/efi", "/esp"];
    places.contains(&mount_point.trim_end_matches('/'))
}

/// The search through one golden root.
pub(super) struct Finder<'a> {
    /// The root with symbolic links resolved.
    root: &'a Path,
    /// Path of `etc/fstab` below the root.
    fstab: PathBuf,
    wishes: &'a Wishes,
    /// True if the root is a directory of this machine and no file system on a device.
    is_plain: bool,
}

impl<'a> Finder<'a> {
    pub(super) fn new(root: &'a Path, wishes: &'a Wishes) -> Result<Self, SurveyError> {
        let mounts = mountinfo::read()?;
        Ok(Self {
            root,
            fstab: root.join("etc/fstab"),
            wishes,
            is_plain: plain::is_plain(root, mountinfo::find_at(&mounts, root)),
        })
    }

    /// Follows every line of fstab, then what is mounted and in use beside it.
    pub(super) fn find(&self) -> Result<Found, SurveyError> {
        let mut found = Found::default();
        let entries = self.lines(&mut found.notes)?;
        let points = self.mount_directories(&entries);
        for entry in &entries {
            match classify(entry) {
                LineKind::Local | LineKind::Unsupported => {
                    let mount = self.mount(entry, &points, &mut found.notes)?;
                    found.mounts.extend(mount);
                }
                LineKind::SwapFile => found.swap_files.extend(self.swap_file(entry, &mut found.notes)),
                LineKind::SwapDevice | LineKind::Foreign => {}
            }
        }
        self.add_root_without_line(&points, &mut found)?;
        self.add_unnamed(&entries, &mut found)?;
        for entry in entries
            .iter()
            .filter(|entry| classify(entry) == LineKind::SwapDevice)
        {
            let swap = self.swap_device(entry, &mut found)?;
            found.swaps.extend(swap);
        }
        self.add_swaps_in_use(&mut found)?;
        self.check_system_partition(&found)?;
        found
            .mounts
            .sort_by_key(|mount| (depth(&mount.mount_point), mount.mount_point.clone()));
        Ok(found)
    }

    /// Reads the lines of fstab, which may be missing: a system whose units mount everything needs none.
    fn lines(&self, notes: &mut Vec<String>) -> Result<Vec<FstabEntry>, SurveyError> {
        match fs::read(&self.fstab) {
            Ok(text) => Ok(fstab::parse(&text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.looks_like_a_system() => {
                notes.push("there is no etc/fstab; what is mounted is cloned".to_owned());
                Ok(Vec::new())
            }
            Err(error) => Err(SurveyError::Root {
                root: self.root.to_owned(),
                problem: format!(
                    "reading its etc/fstab: {error}; --root must name the root directory of a golden system"
                ),
            }),
        }
    }

    fn looks_like_a_system(&self) -> bool {
        let has = |name: &str| self.root.join(name).is_dir();
        has("etc") && ["usr", "bin", "sbin"].iter().any(|name| has(name))
    }

    /// Returns device and inode of the directories that fstab mounts something on.
    fn mount_directories(&self, entries: &[FstabEntry]) -> HashSet<(u64, u64)> {
        let ours = entries
            .iter()
            .filter(|entry| matches!(classify(entry), LineKind::Local | LineKind::Unsupported));
        ours.filter_map(|entry| usage::identity(&self.below_root(&entry.mount_point)))
            .collect()
    }

    /// Adds the root if fstab has no line for it: the kernel command line alone may name it.
    fn add_root_without_line(
        &self,
        points: &HashSet<(u64, u64)>,
        found: &mut Found,
    ) -> Result<(), SurveyError> {
        if found.mounts.iter().any(|mount| mount.mount_point == "/") {
            return Ok(());
        }
        if self.is_plain {
            found.mounts.push(self.plain_root(points)?);
            return Ok(());
        }
        let mounts = mountinfo::read()?;
        let Some(info) = mountinfo::find_at(&mounts, self.root) else {
            let problem = "its etc/fstab has no line for /, and nothing is mounted there".to_owned();
            return Err(SurveyError::Root {
                root: self.root.to_owned(),
                problem,
            });
        };
        let entry = unnamed::entry("/", info);
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

    /// Checks that a machine that boots by UEFI has an EFI system partition in the plan; without it no clone
    /// would boot.
    fn check_system_partition(&self, found: &Found) -> Result<(), SurveyError> {
        let is_there = found.mounts.iter().any(|mount| mount.fstype == FsType::Vfat);
        let is_excluded = self
            .wishes
            .excluded
            .iter()
            .any(|dir| is_boot_place(&dir.to_string_lossy()));
        let by_uefi = self.root == Path::new("/") && Path::new("/sys/firmware/efi").is_dir();
        if is_there || is_excluded || !by_uefi || !self.wishes.bootable {
            return Ok(());
        }
        let drives: BTreeSet<&String> = found
            .mounts
            .iter()
            .filter_map(|mount| Some(&mount.on.as_ref()?.0))
            .collect();
        for name in drives {
            let Some(table) = Drive::open(name)?.and_then(|drive| drive.table) else {
                continue;
            };
            let is_esp = |partition: &&crate::table::Partition| {
                let node = crate::spec::partition_name(name, partition.number);
                partition.kind.known() == Some(KnownType::Esp) && !self.wishes.raw.contains(&node)
            };
            if let Some(esp) = table.partitions.iter().find(is_esp) {
                let node = crate::spec::partition_name(name, esp.number);
                return Err(SurveyError::Root {
                    root: self.root.to_owned(),
                    problem: format!(
                        "this machine boots by UEFI, and its EFI system partition /dev/{node} is not mounted: mount it \
                         (at /boot/efi or /efi), or say with -x /boot/efi that the clone has none"
                    ),
                });
            }
        }
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
