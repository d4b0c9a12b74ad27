//! A golden tree that lies in a directory of this machine: a chroot, an overlay, debootstrap's output.
//!
//! There is no device to look at, so its fstab is believed: `/dev/sda2` is partition 2 of a drive `sda`.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use ka_host::mountinfo::MountInfo;

use super::{Finder, FoundMount};
use crate::fs_type::FsType;
use crate::fstab::{FstabEntry, Tag, TaggedName};
use crate::golden::classify::is_optional;
use crate::golden::{SurveyError, usage};
use crate::spec::GoldenDevice;

/// Type of the clone's file system if fstab names none; a desc line with `fs=` overrides it.
const USUAL_TYPE: FsType = FsType::Ext4;

/// True if the golden root is no file system of its own on a block device. Always false for `/` itself.
pub(super) fn is_plain(root: &Path, mounted: Option<&MountInfo>) -> bool {
    let on_nothing = |info: &MountInfo| info.device.0 == 0 && info.fstype != "btrfs";
    let is_part = |info: &MountInfo| info.fstype != "btrfs" && info.root != Path::new("/");
    root != Path::new("/") && mounted.is_none_or(|info| on_nothing(info) || is_part(info))
}

impl Finder<'_> {
    /// Describes a mount point that is a directory of the golden tree, with the device that its fstab line
    /// names.
    pub(super) fn plain_directory(
        &self,
        entry: &FstabEntry,
        source: PathBuf,
        points: &HashSet<(u64, u64)>,
        notes: &mut Vec<String>,
    ) -> Result<Option<FoundMount>, SurveyError> {
        let holds_something = fs::read_dir(&source).is_ok_and(|mut entries| entries.next().is_some());
        if !source.is_dir() || (is_optional(entry) && !holds_something) {
            return self.not_mounted(entry, &source, notes).map(|()| None);
        }
        let (golden, on) = named_device(&entry.spec);
        let is_on = |drive: &String| on.as_ref().is_some_and(|(name, _)| name == drive);
        if let Some(drive) = self.wishes.excluded_disks.iter().find(|drive| is_on(drive)) {
            notes.push(format!(
                "{} is left out with the disk {drive} (-X)",
                entry.mount_point
            ));
            return Ok(None);
        }
        let mut types = entry.fstype.split(',').map(str::parse::<FsType>);
        let fstype = match types.find_map(Result::ok) {
            Some(fstype) => fstype,
            None if entry.fstype == "auto" => USUAL_TYPE,
            None => {
                let problem = format!("{}: KA does not make {}", entry.mount_point, entry.fstype);
                return Err(self.error(entry, format!("{problem}: give the line the option noauto")));
            }
        };
        let subvolume = entry
            .options
            .split(',')
            .find_map(|option| option.strip_prefix("subvol="));
        let subvolume = subvolume.map(|path| path.trim_matches('/').to_owned());
        let subvolume = (fstype == FsType::Btrfs).then(|| subvolume.unwrap_or_default());
        let usage = usage::of_tree(&source, points);
        let mount = FoundMount::blank(golden, on, None, fstype, subvolume).using(usage);
        self.found(entry, source, mount).map(Some)
    }

    /// Describes the root of a tree whose fstab has no line for it, such as a container's.
    pub(super) fn plain_root(&self, points: &HashSet<(u64, u64)>) -> Result<FoundMount, SurveyError> {
        let entry = FstabEntry {
            line: 0,
            spec: String::new(),
            mount_point: "/".to_owned(),
            fstype: USUAL_TYPE.name().to_owned(),
            options: "defaults".to_owned(),
            fields: Vec::new(),
        };
        let usage = usage::of_tree(self.root, points);
        let mount = FoundMount::blank(GoldenDevice::default(), None, None, USUAL_TYPE, None).using(usage);
        self.found(&entry, self.root.to_owned(), mount)
    }
}

/// Describes a device that is not here, from its name alone: `/dev/sda2` is partition 2 of `sda`.
pub(super) fn named_device(spec: &str) -> (GoldenDevice, Option<(String, u32)>) {
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

/// Splits `sda2` into (`sda`, 2), and `nvme0n1p2` into (`nvme0n1`, 2).
fn split_partition_name(name: &str) -> Option<(String, u32)> {
    let drive = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = name[drive.len()..].parse().ok().filter(|number| *number > 0)?;
    let drive = match drive.strip_suffix('p') {
        Some(shorter) if shorter.ends_with(|c: char| c.is_ascii_digit()) => shorter,
        _ => drive,
    };
    (!drive.is_empty()).then(|| (drive.to_owned(), number))
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
}
