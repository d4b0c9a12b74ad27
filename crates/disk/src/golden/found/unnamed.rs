//! Mounts below the golden root that no line of its fstab names: by a unit, by a generator, by hand. Each is
//! cloned, or reported with a remedy. Only mounts that hold nothing of the golden node's own are skipped.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ka_host::mountinfo::{self, MountInfo};

use super::mounts::without_subvolid;
use super::{Finder, Found, is_boot_place};
use crate::fs_type::FsType;
use crate::fstab::FstabEntry;
use crate::golden::SurveyError;
use crate::golden::device::{BlockDevice, Named};

/// Directories of units, below the root. Generators write to the last one while the system runs.
const UNIT_DIRECTORIES: [&str; 4] = [
    "etc/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
    "run/systemd/generator",
];
/// File systems that are never written to: images of discs and of packages.
const READ_ONLY_TYPES: [&str; 6] = ["iso9660", "udf", "squashfs", "erofs", "cramfs", "romfs"];
/// File systems that may span devices; the kernel shows them without a device number of their own.
const WITHOUT_DEVICE: [&str; 2] = ["zfs", "bcachefs"];
/// Inode number of a subvolume's root: `BTRFS_FIRST_FREE_OBJECTID`.
const SUBVOLUME_ROOT: u64 = 256;

impl Finder<'_> {
    /// Looks at every mount below the root.
    pub(super) fn add_unnamed(&self, entries: &[FstabEntry], found: &mut Found) -> Result<(), SurveyError> {
        self.wake_automounts()?;
        let mounts = mountinfo::read()?;
        for info in &mounts {
            let Some(mount_point) = self.below(&info.mount_point) else {
                continue;
            };
            let is_named = entries
                .iter()
                .any(|entry| same_path(&entry.mount_point, &mount_point));
            let is_top = mountinfo::find_at(&mounts, &info.mount_point) == Some(info);
            if is_named || !is_top || self.is_excluded(&mount_point) {
                continue;
            }
            if WITHOUT_DEVICE.contains(&info.fstype.as_str()) {
                let what = format!("{mount_point} ({}, {})", info.source.display(), info.fstype);
                found
                    .notes
                    .push(format!("{what} is left out: KA does not clone {}", info.fstype));
            } else if let Some(block) = self.own_device(info) {
                self.unnamed(&mount_point, info, block, found)?;
            }
        }
        Ok(())
    }

    /// Looks into automount points, so that systemd mounts the ESP.
    fn wake_automounts(&self) -> Result<(), SurveyError> {
        for info in mountinfo::read()?.iter().filter(|info| info.fstype == "autofs") {
            if self
                .below(&info.mount_point)
                .is_some_and(|path| is_boot_place(&path))
            {
                let _ = fs::metadata(info.mount_point.join("."));
            }
        }
        Ok(())
    }

    /// Returns the mount point as the golden node calls it; `None` if it does not lie below the root.
    fn below(&self, mount_point: &Path) -> Option<String> {
        let relative = mount_point.strip_prefix(self.root).ok()?;
        let path = Path::new("/")
            .join(relative)
            .into_os_string()
            .into_string()
            .ok()?;
        (path != "/").then_some(path)
    }

    fn is_excluded(&self, mount_point: &str) -> bool {
        self.wishes
            .excluded
            .iter()
            .any(|dir| Path::new(mount_point).starts_with(dir))
    }

    /// Returns the block device under a visible mount. `None` for pseudo, network and FUSE file systems, for
    /// mounts on a single file, for disk images in the golden tree, and for a mount that a later one hides.
    fn own_device(&self, info: &MountInfo) -> Option<BlockDevice> {
        let meta = fs::metadata(&info.mount_point)
            .ok()
            .filter(fs::Metadata::is_dir)?;
        let (block, is_seen) = match info.device {
            (0, _) => (BlockDevice::from_node(&info.source)?, true),
            numbers => {
                let seen = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
                (BlockDevice::from_numbers(numbers).ok()?, seen == numbers)
            }
        };
        let image = fs::read(format!("/sys/class/block/{}/loop/backing_file", block.drive()));
        let image = image.map(|path| PathBuf::from(String::from_utf8_lossy(&path).trim_end()));
        let is_ours = image.is_ok_and(|image| image.starts_with(self.root) && self.root != Path::new("/"))
            || (self.root == Path::new("/") && block.name.starts_with("loop") && block.partition.is_none());
        (is_seen && !is_ours && !self.is_left_out(&block)).then_some(block)
    }

    fn unnamed(
        &self,
        mount_point: &str,
        info: &MountInfo,
        block: BlockDevice,
        found: &mut Found,
    ) -> Result<(), SurveyError> {
        let is_btrfs = info.fstype == "btrfs";
        let on_it = |mount: &&super::FoundMount| {
            mount
                .device
                .as_ref()
                .is_some_and(|device| device.block.name == block.name)
        };
        let mut planned = found.mounts.iter().filter(on_it);
        let has_place = planned.clone().next().is_some();
        let root = info.root.strip_prefix("/").unwrap_or(&info.root);
        let is_brought = |subvolume: &Option<String>| root.starts_with(subvolume.as_deref().unwrap_or(""));
        // It is a bind mount, or a subvolume that lies in another one's tree.
        if has_place && (!is_btrfs || planned.any(|mount| is_brought(&mount.subvol))) {
            return Ok(());
        }
        let what = format!("{mount_point} ({}, {})", block.node.display(), info.fstype);
        let inode = fs::metadata(&info.mount_point).map_or(0, |meta| meta.ino());
        let is_whole = if is_btrfs {
            inode == SUBVOLUME_ROOT
        } else {
            info.root == Path::new("/")
        };
        let device = Named::probe(block)?;
        let known = device
            .identity
            .fstype
            .as_deref()
            .unwrap_or(&info.fstype)
            .parse::<FsType>();
        if known.is_err() || !is_whole {
            if !READ_ONLY_TYPES.contains(&info.fstype.as_str()) {
                let why = if is_whole {
                    format!("KA does not make {}; -D copies it raw", info.fstype)
                } else {
                    format!(
                        "it shows a part of a file system ({}) that is not cloned",
                        info.root.display()
                    )
                };
                found.notes.push(format!("{what} is mounted and left out: {why}"));
            }
            return Ok(());
        }
        let is_wanted = has_place || self.belongs(mount_point, &device, found);
        if !is_wanted {
            found.notes.push(format!(
                "{what} is mounted, but no line of etc/fstab and no unit names it: it is left out; a line with \
                 mount={mount_point} in a desc file clones it"
            ));
            return Ok(());
        }
        found.notes.push(format!(
            "{what} is cloned although no line of etc/fstab names it; what mounts it here has to do so on the clone"
        ));
        let mount = self.mounted_device(&entry(mount_point, info), info, device)?;
        found.mounts.push(mount);
        Ok(())
    }

    /// True if the mount belongs to the system. It does if a unit mounts it, the system boots from it, the
    /// operator asks for it, or its partition is in a table that is copied. A stick that somebody plugged in
    /// does not belong.
    fn belongs(&self, mount_point: &str, device: &Named, found: &Found) -> bool {
        let drive = device.block.drive();
        let on_drive = |mount: &super::FoundMount| mount.on.as_ref().is_some_and(|(name, _)| name == drive);
        let is_copied = !self.wishes.described.iter().any(|name| name == drive)
            && device.block.partition.is_some()
            && found.mounts.iter().any(on_drive);
        let is_asked_for = self.wishes.wanted.iter().any(|path| same_path(path, mount_point));
        is_copied || is_asked_for || is_boot_place(mount_point) || self.has_unit(mount_point)
    }

    fn has_unit(&self, mount_point: &str) -> bool {
        let name = unit_name(mount_point);
        UNIT_DIRECTORIES.iter().any(|directory| {
            let path = |kind: &str| self.root.join(directory).join(format!("{name}.{kind}"));
            ["mount", "automount"]
                .iter()
                .any(|kind| path(kind).symlink_metadata().is_ok())
        })
    }
}

/// Makes the fstab line that would mount it.
pub(super) fn entry(mount_point: &str, info: &MountInfo) -> FstabEntry {
    let subvolume = info.root.to_string_lossy().trim_matches('/').to_owned();
    let subvolume = (info.fstype == "btrfs").then_some(subvolume);
    FstabEntry {
        line: 0,
        spec: String::new(),
        mount_point: mount_point.to_owned(),
        fstype: info.fstype.clone(),
        options: without_subvolid(&info.super_options, subvolume.as_deref()),
        fields: Vec::new(),
    }
}

fn same_path(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

/// Returns the name of a mount unit without its ending (systemd-escape(1), `--path`).
fn unit_name(mount_point: &str) -> String {
    let mut name = String::new();
    let path = mount_point.trim_matches('/');
    for (index, byte) in path.bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if index == 0 => name.push_str("\\x2e"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' | b'.' => name.push(char::from(byte)),
            other => name.push_str(&format!("\\x{other:02x}")),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_named_as_systemd_escapes_paths() {
        assert_eq!(unit_name("/srv"), "srv");
        assert_eq!(unit_name("/boot/efi/"), "boot-efi");
        assert_eq!(unit_name("/opt/my-data.d/x y"), "opt-my\\x2ddata.d-x\\x20y");
        assert_eq!(unit_name("/.snapshots"), "\\x2esnapshots");
    }
}
