//! Lines that name swap: files, and devices anywhere.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ka_host::mountinfo;

use super::plain::named_device;
use super::{Finder, Found, FoundMount, FoundSwap};
use crate::fstab::{FstabEntry, TaggedName};
use crate::golden::SurveyError;
use crate::golden::classify::MADE_AT_BOOT;
use crate::golden::device::{BlockDevice, Named};
use crate::spec::SwapFileSpec;

/// The file that lists swap in use (proc(5)).
const SWAPS: &str = "/proc/swaps";

impl Finder<'_> {
    pub(super) fn swap_file(&self, entry: &FstabEntry, notes: &mut Vec<String>) -> Option<SwapFileSpec> {
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

    pub(super) fn swap_device(
        &self,
        entry: &FstabEntry,
        found: &mut Found,
    ) -> Result<Option<FoundSwap>, SurveyError> {
        if self.has_random_key(&entry.spec) {
            return Ok(None);
        }
        if self.is_plain {
            // A device of that name on this machine does not belong to the golden system.
            let (golden, on) = named_device(&entry.spec);
            return Ok(Some(FoundSwap { golden, on }));
        }
        if let Some(device) = self.find_device(&entry.spec, &found.mounts)? {
            if self.is_left_out(&device.block) {
                let how = "is left out with its disk (-X) or copied raw (-D)";
                found.notes.push(format!("the swap area {} {how}", entry.spec));
                return Ok(None);
            }
            let golden = device.golden(Some(&entry.spec));
            return Ok(Some(FoundSwap {
                golden,
                on: device.block.partition,
            }));
        }
        if self.root != Path::new("/") && entry.spec.starts_with("/dev/") {
            let (golden, on) = named_device(&entry.spec);
            return Ok(Some(FoundSwap { golden, on }));
        }
        let what = "is not there, and its line of fstab means nothing in the clone";
        found.notes.push(format!("the swap area {} {what}", entry.spec));
        Ok(None)
    }

    /// True if crypttab gives the swap area a new random key at each boot: the clone makes its own.
    fn has_random_key(&self, spec: &str) -> bool {
        let Some(name) = spec.strip_prefix("/dev/mapper/") else {
            return false;
        };
        let read = |path: &str| fs::read(self.below_root(path)).unwrap_or_default();
        let crypttab = read("/etc/crypttab");
        let crypttab = String::from_utf8_lossy(&crypttab);
        let mut lines = crypttab
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let is_swap = |options: &&str| options.split(',').any(|option| option == "swap");
        let made = lines.any(|fields| fields.first() == Some(&name) && fields.get(3).is_some_and(is_swap));
        // OpenRC's configuration.
        let dmcrypt = read("/etc/conf.d/dmcrypt");
        let dmcrypt = String::from_utf8_lossy(&dmcrypt);
        let mut lines = dmcrypt
            .lines()
            .filter_map(|line| line.trim().strip_prefix("swap="));
        made || lines.any(|value| value.trim().trim_matches(['"', '\'']) == name)
    }

    /// Adds the swap in use that no line of fstab names: started by a unit, by the partition's type, by hand.
    /// For another root, only swap on that root's disks counts.
    pub(super) fn add_swaps_in_use(&self, found: &mut Found) -> Result<(), SurveyError> {
        let Ok(text) = fs::read(SWAPS) else { return Ok(()) };
        for line in text.split(|byte| *byte == b'\n').skip(1) {
            let Some(name) = line
                .split(|byte| byte.is_ascii_whitespace())
                .next()
                .filter(|name| !name.is_empty())
            else {
                continue;
            };
            let path = PathBuf::from(OsString::from_vec(mountinfo::unescape(name)));
            match BlockDevice::from_node(&path) {
                Some(block) => self.add_swap_device(block, found)?,
                None => self.add_swap_file(&path, found),
            }
        }
        Ok(())
    }

    fn add_swap_device(&self, block: BlockDevice, found: &mut Found) -> Result<(), SurveyError> {
        let on_drive = |mount: &FoundMount| mount.on.as_ref().is_some_and(|on| on.0 == block.drive());
        let is_golden = self.root == Path::new("/") || found.mounts.iter().any(on_drive);
        let node = block.node.to_string_lossy();
        let is_known = found.swaps.iter().any(|swap| swap.golden.path == node);
        let from_nothing = MADE_AT_BOOT.iter().any(|name| node.starts_with(name));
        if !is_golden || is_known || from_nothing || self.is_left_out(&block) {
            return Ok(());
        }
        found.notes.push(format!(
            "the swap area {node} is in use although no line of etc/fstab names it: the clone gets one like it"
        ));
        let on = block.partition.clone();
        let golden = Named::probe(block)?.golden(None);
        found.swaps.push(FoundSwap { golden, on });
        Ok(())
    }

    /// Adds a swap file, so that it is made anew: a copy would bring the golden node's swapped-out memory.
    fn add_swap_file(&self, path: &Path, found: &mut Found) {
        let Some(below) = path.strip_prefix(self.root).ok().and_then(Path::to_str) else {
            return;
        };
        let Some(meta) = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file) else {
            return;
        };
        let path = format!("/{below}");
        if found.swap_files.iter().any(|file| file.path == path) {
            return;
        }
        found.notes.push(format!(
            "the swap file {path} is in use although no line of etc/fstab names it: the clone gets one like it"
        ));
        found.swap_files.push(SwapFileSpec {
            path,
            size_bytes: meta.len(),
            mode: meta.mode() & 0o7777,
        });
    }

    /// Finds the device that `spec` names. Several may have that label, or be copies of one another with the
    /// same UUID. Then the one beside a golden file system is taken, because the kernel's own order cannot be
    /// known.
    pub(super) fn find_device(
        &self,
        spec: &str,
        mounts: &[FoundMount],
    ) -> Result<Option<Named>, SurveyError> {
        if let Some(block) = BlockDevice::from_node(Path::new(spec)) {
            // In another root, `/dev/sda1` is not this machine's `/dev/sda1`.
            let ours = self.root == Path::new("/");
            return ours.then(|| Named::probe(block)).transpose();
        }
        if TaggedName::parse(spec).is_none() {
            return Ok(None);
        }
        let is_golden = |drive: &str| {
            mounts
                .iter()
                .any(|mount| mount.on.as_ref().is_some_and(|on| on.0 == drive))
        };
        let mut blocks = BlockDevice::all()?;
        blocks.sort_by_key(|block| !is_golden(block.drive()));
        // A drive that cannot be read now (empty card reader, failing disk) is not the one.
        let mut devices = blocks.into_iter().filter_map(|block| Named::probe(block).ok());
        Ok(devices.find(|device| device.is_meant_by(spec) == Some(true)))
    }
}
