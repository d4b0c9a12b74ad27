//! Lines that mount a file system on a device.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ka_host::HostError;
use ka_host::mountinfo::{self, MountInfo};

use super::{Finder, FoundMount, is_boot_place};
use crate::fs_type::FsType;
use crate::fstab::{self, FstabEntry, TaggedName};
use crate::golden::classify::{LineKind, classify, is_optional};
use crate::golden::device::{BlockDevice, Named};
use crate::golden::{SurveyError, features, usage};

/// An option that names a btrfs subvolume by a number that means nothing on another disk.
const SUBVOLID: &str = "subvolid";

impl Finder<'_> {
    pub(super) fn mount(
        &self,
        entry: &FstabEntry,
        points: &HashSet<(u64, u64)>,
        notes: &mut Vec<String>,
    ) -> Result<Option<FoundMount>, SurveyError> {
        let source = self.below_root(&entry.mount_point);
        // A look at the directory makes an automounter mount it.
        let _ = fs::metadata(source.join("."));
        let seen = mountinfo::find_at(&mountinfo::read()?, &source).cloned();
        let seen = seen.filter(|info| info.fstype != "autofs");
        if self.is_plain && (entry.mount_point == "/" || seen.is_none()) {
            return self.plain_directory(entry, source, points, notes);
        }
        let Some(info) = seen else {
            return self.not_mounted(entry, &source, notes).map(|()| None);
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
            self.note_left_out(entry, &device, notes);
            return Ok(None);
        }
        self.check_identity(entry, &device)?;
        self.mounted_device(entry, &info, device).map(Some)
    }

    /// Handles a line whose mount point has nothing mounted: that is right if the operator leaves it out.
    pub(super) fn not_mounted(
        &self,
        entry: &FstabEntry,
        source: &Path,
        notes: &mut Vec<String>,
    ) -> Result<(), SurveyError> {
        let may_be_left_out = !self.wishes.raw.is_empty() || !self.wishes.excluded_disks.is_empty();
        if may_be_left_out
            && let Some(device) = self.find_device(&entry.spec, &[])?
            && self.is_left_out(&device.block)
        {
            self.note_left_out(entry, &device, notes);
            return Ok(());
        }
        let (path, spec) = (&entry.mount_point, &entry.spec);
        // A directory that -x excludes need not be there.
        let excluded = &self.wishes.excluded;
        if excluded.iter().any(|dir| Path::new(path).starts_with(dir)) {
            return Ok(());
        }
        if is_boot_place(path) && self.wishes.bootable {
            let way_out = format!("mount it, or say with -x {path} that the clone has none");
            let problem = format!("{path} ({spec}) is not mounted, and no clone boots without it: {way_out}");
            return Err(self.error(entry, problem));
        }
        // A loop device may stand for a disk: the operator may have made it on purpose.
        let is_loop = entry.spec.starts_with("/dev/loop");
        if is_optional(entry) && fstab::comes_and_goes(&entry.spec) && !is_loop {
            return Ok(());
        }
        if is_optional(entry) {
            notes.push(format!(
                "{path} ({spec}) is not mounted and is left out of the clone"
            ));
            return Ok(());
        }
        let at = source.display();
        let way_out = "mount it, or leave it out: with -x, or by the line's option noauto or nofail";
        Err(self.error(
            entry,
            format!("{path} ({spec}) is not mounted at {at}: {way_out}"),
        ))
    }

    /// Adds a note for a mount that is left out. A partition that -D copies needs none, because it is in the
    /// clone; the assembly refuses it while it is mounted writable.
    fn note_left_out(&self, entry: &FstabEntry, device: &Named, notes: &mut Vec<String>) {
        if !self.wishes.raw.contains(&device.block.name) {
            let disk = device.block.drive();
            notes.push(format!(
                "{} is left out with the disk {disk} (-X)",
                entry.mount_point
            ));
        }
    }

    /// Finds the device under a mount. Btrfs has a made-up device number; its mount source counts instead.
    pub(super) fn device_of(&self, entry: &FstabEntry, info: &MountInfo) -> Result<Named, SurveyError> {
        let block = match info.device {
            // Without an initramfs the source of the root is `/dev/root`, which is no node; then fstab
            // counts.
            (0, _) => match BlockDevice::from_node(&info.source) {
                None => {
                    return self
                        .find_device(&entry.spec, &[])?
                        .ok_or_else(|| self.no_device(entry, info));
                }
                found => found,
            },
            numbers => BlockDevice::from_numbers(numbers).ok(),
        };
        Named::probe(block.ok_or_else(|| self.no_device(entry, info))?)
    }

    fn no_device(&self, entry: &FstabEntry, info: &MountInfo) -> SurveyError {
        let (path, source) = (&entry.mount_point, info.source.display());
        let way_out = "unmount it, or give the line the option noauto";
        self.error(
            entry,
            format!("{path} is mounted from {source}, which is no block device: {way_out}"),
        )
    }

    pub(super) fn is_left_out(&self, block: &BlockDevice) -> bool {
        let disks = &self.wishes.excluded_disks;
        disks.iter().any(|disk| disk == block.drive()) || self.wishes.raw.contains(&block.name)
    }

    /// Checks that the mounted device is the one that the line names; else the clone would get a line for
    /// another device.
    fn check_identity(&self, entry: &FstabEntry, device: &Named) -> Result<(), SurveyError> {
        let meant = device.is_meant_by(&entry.spec);
        // Kernel names in the fstab of another root were given by another machine's kernel.
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

    pub(super) fn mounted_device(
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
        let usage = usage::of_file_system(&source)?;
        let alias = Some(entry.spec.as_str()).filter(|spec| !spec.is_empty());
        let golden = device.golden(alias);
        let several = fstype == FsType::Btrfs
            && features::btrfs_devices(&device.block.node).is_ok_and(|count| count > 1);
        let on = device.block.partition.clone().filter(|_| !several);
        self.found(
            entry,
            source,
            FoundMount::blank(golden, on, Some(device), fstype, subvol).using(usage),
        )
    }

    pub(super) fn found(
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
}

pub(super) fn without_subvolid(options: &str, subvol: Option<&str>) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subvolume_numbers_become_names() {
        assert_eq!(without_subvolid("rw,subvolid=256", Some("@")), "rw,subvol=/@");
        assert_eq!(without_subvolid("subvolid=256,subvol=/@", Some("@")), "subvol=/@");
        assert_eq!(without_subvolid("subvol=@", Some("@")), "subvol=@");
    }
}
