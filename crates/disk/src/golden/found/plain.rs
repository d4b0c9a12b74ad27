//! A golden tree that lies in a directory of this machine: a chroot, an overlay, what debootstrap made.
//!
//! No device is there to look at, so its fstab is believed: `/dev/sda2` is partition 2 of a drive `sda`.

use std::path::{Path, PathBuf};

use ka_host::mountinfo::MountInfo;

use super::{Finder, FoundMount};
use crate::fstab::{FstabEntry, Tag, TaggedName};
use crate::golden::{SurveyError, usage};
use crate::spec::{FsType, GoldenDevice};

impl Finder<'_> {
    /// Whether the golden root is no file system of its own on a block device. Never so for `/` itself.
    pub(super) fn is_plain_directory(&self, mounted: Option<&MountInfo>) -> bool {
        let on_nothing = |info: &MountInfo| info.device.0 == 0 && info.fstype != "btrfs";
        let is_part = |info: &MountInfo| info.fstype != "btrfs" && info.root != Path::new("/");
        self.root != Path::new("/") && mounted.is_none_or(|info| on_nothing(info) || is_part(info))
    }

    /// A golden tree that lies in a directory: its fstab is believed about the device of `/`.
    pub(super) fn plain_directory(
        &self,
        entry: &FstabEntry,
        source: PathBuf,
    ) -> Result<FoundMount, SurveyError> {
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
                ..FoundMount::blank(golden, on, None, fstype, None)
            },
        )
    }
}

/// What a name alone tells of a device that is not here: `/dev/sda2` is partition 2 of `sda`.
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

/// `sda2` → (`sda`, 2); `nvme0n1p2` → (`nvme0n1`, 2).
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
