//! What the golden fstab mounts, checked against what is mounted now.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ka_host::HostError;
use ka_host::mountinfo::{self, MountInfo};

use super::classify::{LineKind, classify, is_optional};
use super::device::{BlockDevice, Named};
use super::{SurveyError, features, usage};
use crate::fstab::{self, FstabEntry, Tag, TaggedName};
use crate::spec::{FsType, GoldenDevice, SwapFileSpec};

/// An option that names a btrfs subvolume by a number that means nothing on another disk.
const SUBVOLID: &str = "subvolid";

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
    mounts: Vec<MountInfo>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(
        root: &'a Path,
        excluded_disks: &'a [String],
        raw: &'a [String],
    ) -> Result<Self, SurveyError> {
        let mounts = mountinfo::read()?;
        Ok(Self {
            root,
            fstab: root.join("etc/fstab"),
            excluded_disks,
            raw,
            mounts,
        })
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
        for entry in fstab::parse(&text) {
            match classify(&entry) {
                LineKind::Foreign => {}
                LineKind::SwapFile => found.swap_files.extend(self.swap_file(&entry, &mut found.notes)),
                LineKind::SwapDevice => {
                    let swap = self.swap_device(&entry, &mut found.notes)?;
                    found.swaps.extend(swap);
                }
                LineKind::Local | LineKind::Unsupported => {
                    let mount = self.mount(&entry, &mut found.notes)?;
                    found.mounts.extend(mount);
                }
            }
        }
        self.add_root_without_line(&mut found)?;
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
        let Some(info) = mountinfo::find_at(&self.mounts, self.root) else {
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

    fn mount(&self, entry: &FstabEntry, notes: &mut Vec<String>) -> Result<Option<FoundMount>, SurveyError> {
        let source = self.below_root(&entry.mount_point);
        // Looking at the directory makes an automounter mount it.
        let _ = fs::metadata(source.join("."));
        let seen = mountinfo::find_at(&self.mounts, &source).cloned();
        let Some(info) = seen.filter(|info| info.fstype != "autofs") else {
            return self.not_mounted(entry, source, notes);
        };
        if classify(entry) == LineKind::Unsupported && is_optional(entry) {
            notes.push(format!(
                "{} ({}) is left out: KA does not make {}",
                entry.mount_point, entry.spec, entry.fstype
            ));
            return Ok(None);
        }
        let device = self.device_of(entry, &info)?;
        if self.is_left_out(&device.block) {
            // What -D copies needs no note, and assembling refuses it while it is mounted writable.
            if !self.raw.contains(&device.block.name) {
                let disk = device.block.drive();
                notes.push(format!(
                    "{} is left out with the disk {disk} (-X)",
                    entry.mount_point
                ));
            }
            return Ok(None);
        }
        self.check_identity(entry, &device)?;
        self.mounted_device(entry, &info, device).map(Some)
    }

    fn not_mounted(
        &self,
        entry: &FstabEntry,
        source: PathBuf,
        notes: &mut Vec<String>,
    ) -> Result<Option<FoundMount>, SurveyError> {
        if entry.mount_point == "/" && self.root != Path::new("/") && source.is_dir() {
            return self.plain_directory(entry, source).map(Some);
        }
        if is_optional(entry) {
            notes.push(format!(
                "{} ({}) is not mounted and is left out; the clone's fstab names it as before",
                entry.mount_point, entry.spec
            ));
            return Ok(None);
        }
        let disk = self
            .excluded_disks
            .iter()
            .find(|disk| names_disk(&entry.spec, disk));
        if let Some(disk) = disk {
            notes.push(format!(
                "{} is left out with the disk {disk} (-X)",
                entry.mount_point
            ));
            return Ok(None);
        }
        Err(self.error(
            entry,
            format!(
                "{} ({}) is not mounted at {}: mount it, or give the line the option noauto or nofail to leave it out",
                entry.mount_point,
                entry.spec,
                source.display()
            ),
        ))
    }

    /// The device under a mount. Btrfs shows a made-up number, there the mount's source counts.
    fn device_of(&self, entry: &FstabEntry, info: &MountInfo) -> Result<Named, SurveyError> {
        let block = match info.device {
            (0, _) => BlockDevice::from_node(&info.source),
            numbers => BlockDevice::from_numbers(numbers).ok(),
        };
        let block = block.ok_or_else(|| {
            let what = format!(
                "{} is mounted from {}, which is no block device",
                entry.mount_point,
                info.source.display()
            );
            self.error(
                entry,
                format!("{what}: unmount it, or give the line the option noauto"),
            )
        })?;
        Named::probe(block)
    }

    fn is_left_out(&self, block: &BlockDevice) -> bool {
        self.excluded_disks.iter().any(|disk| disk == block.drive()) || self.raw.contains(&block.name)
    }

    /// What is mounted must be what the line says, or the clone would get a line for something else.
    fn check_identity(&self, entry: &FstabEntry, device: &Named) -> Result<(), SurveyError> {
        let meant = device.is_meant_by(&entry.spec);
        // Plain names in the fstab of another root were given by another machine's kernel.
        let foreign_name = self.root != Path::new("/") && TaggedName::parse(&entry.spec).is_none();
        if meant == Some(false) && !foreign_name {
            let node = device.block.node.display();
            let problem = format!(
                "the line says {} for {}, but {node} is mounted there now: correct the line or mount what it says",
                entry.spec, entry.mount_point
            );
            return Err(self.error(entry, problem));
        }
        Ok(())
    }

    fn mounted_device(
        &self,
        entry: &FstabEntry,
        info: &MountInfo,
        device: Named,
    ) -> Result<FoundMount, SurveyError> {
        let kind = device
            .identity
            .fstype
            .clone()
            .unwrap_or_else(|| info.fstype.clone());
        let fstype = kind
            .parse::<FsType>()
            .or_else(|_| info.fstype.parse())
            .map_err(|unknown| {
                let way_out = format!(
                    "copy it raw with -D {}, leave its disk out with -X, or give the line the option noauto",
                    device.block.name
                );
                self.error(entry, format!("{}: {unknown}: {way_out}", entry.mount_point))
            })?;
        let subvol =
            (fstype == FsType::Btrfs).then(|| info.root.to_string_lossy().trim_matches('/').to_owned());
        if fstype != FsType::Btrfs && info.root != Path::new("/") {
            let problem = format!(
                "{} shows only a part of a file system ({})",
                entry.mount_point,
                info.root.display()
            );
            return Err(self.error(
                entry,
                format!("{problem}: mount all of it, or give the line the option noauto"),
            ));
        }
        let source = self.below_root(&entry.mount_point);
        let (used_bytes, used_inodes) = usage::of_file_system(&source)?;
        let golden = device.golden(Some(&entry.spec));
        let several = fstype == FsType::Btrfs
            && features::btrfs_devices(&device.block.node).is_ok_and(|count| count > 1);
        let on = device.block.partition.clone().filter(|_| !several);
        self.found(
            entry,
            source,
            FoundMount {
                used_bytes,
                used_inodes,
                ..blank(golden, on, Some(device), fstype, subvol)
            },
        )
    }

    /// A golden tree that lies in a directory: its fstab is believed about the device of `/`.
    fn plain_directory(&self, entry: &FstabEntry, source: PathBuf) -> Result<FoundMount, SurveyError> {
        let fstype = entry.fstype.parse::<FsType>();
        let fstype =
            fstype.map_err(|unknown| self.error(entry, format!("{}: {unknown}", entry.mount_point)))?;
        let (used_bytes, used_inodes) = usage::of_tree(&source);
        let (golden, on) = named_device(&entry.spec);
        self.found(
            entry,
            source,
            FoundMount {
                used_bytes,
                used_inodes,
                ..blank(golden, on, None, fstype, None)
            },
        )
    }

    fn found(
        &self,
        entry: &FstabEntry,
        source: PathBuf,
        mount: FoundMount,
    ) -> Result<FoundMount, SurveyError> {
        let meta = fs::metadata(&source)
            .map_err(|error| HostError::new(format!("looking at {}", source.display()), error))?;
        Ok(FoundMount {
            mount_point: entry.mount_point.clone(),
            options: without_subvolid(&entry.options, mount.subvol.as_deref()),
            fstab_options: entry.options.clone(),
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            source,
            ..mount
        })
    }

    fn swap_file(&self, entry: &FstabEntry, notes: &mut Vec<String>) -> Option<SwapFileSpec> {
        match fs::symlink_metadata(self.below_root(&entry.spec)) {
            Ok(meta) if meta.is_file() => Some(SwapFileSpec {
                path: entry.spec.clone(),
                size_bytes: meta.len(),
                mode: meta.mode() & 0o7777,
            }),
            _ => {
                notes.push(format!(
                    "the swap file {} is not there and is not made in the clone",
                    entry.spec
                ));
                None
            }
        }
    }

    fn swap_device(
        &self,
        entry: &FstabEntry,
        notes: &mut Vec<String>,
    ) -> Result<Option<FoundSwap>, SurveyError> {
        let device = self.find_device(&entry.spec)?;
        if let Some(device) = device {
            if self.is_left_out(&device.block) {
                notes.push(format!(
                    "the swap area {} is left out with its disk (-X) or copied raw (-D)",
                    entry.spec
                ));
                return Ok(None);
            }
            return Ok(Some(FoundSwap {
                golden: device.golden(Some(&entry.spec)),
                on: device.block.partition,
            }));
        }
        if self.root != Path::new("/") && entry.spec.starts_with("/dev/") {
            let (golden, on) = named_device(&entry.spec);
            return Ok(Some(FoundSwap { golden, on }));
        }
        notes.push(format!(
            "the swap area {} is not there; the clone's fstab names it as before",
            entry.spec
        ));
        Ok(None)
    }

    fn find_device(&self, spec: &str) -> Result<Option<Named>, SurveyError> {
        let by_name = BlockDevice::from_node(Path::new(spec));
        if let Some(block) = by_name {
            // In another root, `/dev/sda1` is not this machine's `/dev/sda1`.
            let ours = self.root == Path::new("/");
            return if ours {
                Named::probe(block).map(Some)
            } else {
                Ok(None)
            };
        }
        if TaggedName::parse(spec).is_none() {
            return Ok(None);
        }
        for block in BlockDevice::all()? {
            // A drive that cannot be read now (empty card reader, failing disk) is not the one.
            let Ok(device) = Named::probe(block) else { continue };
            if device.is_meant_by(spec) == Some(true) {
                return Ok(Some(device));
            }
        }
        Ok(None)
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

fn blank(
    golden: GoldenDevice,
    on: Option<(String, u32)>,
    device: Option<Named>,
    fstype: FsType,
    subvol: Option<String>,
) -> FoundMount {
    FoundMount {
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

/// What a name alone tells of a device that is not here: `/dev/sda2` is partition 2 of `sda`.
fn named_device(spec: &str) -> (GoldenDevice, Option<(String, u32)>) {
    let mut golden = GoldenDevice {
        path: spec.to_owned(),
        ..GoldenDevice::default()
    };
    if let Some(name) = TaggedName::parse(spec) {
        let field = match name.tag {
            Tag::Uuid => &mut golden.uuid,
            Tag::PartUuid => &mut golden.partuuid,
            Tag::Label => &mut golden.label,
            Tag::PartLabel => &mut golden.partlabel,
        };
        *field = Some(name.value);
    }
    let name = spec.strip_prefix("/dev/").filter(|name| !name.contains('/'));
    (golden, name.and_then(split_partition_name))
}

/// `sda2` → (`sda`, 2); `nvme0n1p2` → (`nvme0n1`, 2).
pub(super) fn split_partition_name(name: &str) -> Option<(String, u32)> {
    let drive = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = name[drive.len()..].parse().ok().filter(|number| *number > 0)?;
    let drive = match drive.strip_suffix('p') {
        Some(shorter) if shorter.ends_with(|c: char| c.is_ascii_digit()) => shorter,
        _ => drive,
    };
    (!drive.is_empty()).then(|| (drive.to_owned(), number))
}

fn names_disk(spec: &str, disk: &str) -> bool {
    let name = spec.strip_prefix("/dev/").and_then(split_partition_name);
    name.is_some_and(|(drive, _)| drive == disk)
}

fn without_subvolid(options: &str, subvol: Option<&str>) -> String {
    let Some(subvol) = subvol else {
        return options.to_owned();
    };
    let is_id = |option: &&str| option.split('=').next() == Some(SUBVOLID);
    if !options.split(',').any(|option| is_id(&option)) {
        return options.to_owned();
    }
    let mut kept: Vec<String> = options
        .split(',')
        .filter(|option| !is_id(option))
        .map(str::to_owned)
        .collect();
    if !kept.iter().any(|option| option.starts_with("subvol=")) {
        kept.push(format!("subvol=/{subvol}"));
    }
    kept.join(",")
}

fn depth(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_names_are_split_as_the_kernel_builds_them() {
        assert_eq!(split_partition_name("sda12"), Some(("sda".to_owned(), 12)));
        assert_eq!(split_partition_name("nvme0n1p2"), Some(("nvme0n1".to_owned(), 2)));
        assert_eq!(split_partition_name("mmcblk0p1"), Some(("mmcblk0".to_owned(), 1)));
        assert_eq!(split_partition_name("sda"), None);
        assert_eq!(split_partition_name("7"), None);
    }

    #[test]
    fn subvolume_numbers_become_names() {
        assert_eq!(without_subvolid("rw,subvolid=256", Some("@")), "rw,subvol=/@");
        assert_eq!(without_subvolid("subvolid=256,subvol=/@", Some("@")), "subvol=/@");
        assert_eq!(without_subvolid("subvol=@", Some("@")), "subvol=@");
    }
}
