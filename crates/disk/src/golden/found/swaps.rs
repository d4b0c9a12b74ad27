//! Lines that name swap: files, and devices wherever they are.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::plain::named_device;
use super::{Finder, Found, FoundMount, FoundSwap};
use crate::fstab::{FstabEntry, TaggedName};
use crate::golden::SurveyError;
use crate::golden::device::{BlockDevice, Named};
use crate::spec::SwapFileSpec;

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

    /// The device that `spec` names. Where several have that label, or are copies of one another with the same
    /// UUID, one beside a golden file system is meant, as the kernel's own order cannot be known.
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
