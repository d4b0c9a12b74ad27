//! Uses of a disk: mounts, swap, and devices built on it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ka_host::mountinfo::{self, MountInfo, unescape};

use super::InventoryError;
use super::partition_dirs;

/// Uses by device number.
#[derive(Debug, Default)]
pub(super) struct Users {
    by_device: HashMap<(u32, u32), String>,
}

impl Users {
    /// Reads `/proc/self/mountinfo` and `/proc/swaps`.
    pub(super) fn read() -> Result<Self, InventoryError> {
        let path = PathBuf::from("/proc/self/mountinfo");
        let mounts = mountinfo::read().map_err(|error| InventoryError {
            path,
            source: io::Error::other(error),
        })?;
        // Kernels without swap support have no such file.
        let swaps = fs::read("/proc/swaps").unwrap_or_default();
        Ok(Self::from(&mounts, &swaps))
    }

    fn from(mounts: &[MountInfo], swaps: &[u8]) -> Self {
        let mut users = Self::default();
        for mount in mounts {
            // Btrfs has a made-up device number; its source is the device.
            let device = if mount.device.0 == 0 {
                device_of(&mount.source)
            } else {
                Some(mount.device)
            };
            if let Some(device) = device {
                users.add(device, format!("is mounted at {}", mount.mount_point.display()));
            }
        }
        for line in swaps.split(|&byte| byte == b'\n').skip(1) {
            let name = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
            let name = String::from_utf8_lossy(&unescape(name)).into_owned();
            if let Some(device) = device_of(Path::new(&name)) {
                users.add(device, "is in use as swap".to_owned());
            }
        }
        users
    }

    /// Returns the first use found of a disk or of one of its partitions. `dir` is the disk's directory in
    /// sysfs.
    pub(super) fn of_disk(&self, dir: &Path) -> Option<String> {
        let partitions = partition_dirs(dir);
        let used = std::iter::once(dir)
            .chain(partitions.iter().map(PathBuf::as_path))
            .find_map(|dir| {
                let name = dir.file_name()?.to_string_lossy().replace('!', "/");
                self.of_device(dir).map(|using| format!("{name} {using}"))
            });
        let read_only = || fs::read_to_string(dir.join("ro")).is_ok_and(|text| text.trim() == "1");
        used.or_else(|| read_only().then(|| "it is read-only".to_owned()))
    }

    fn of_device(&self, dir: &Path) -> Option<String> {
        let numbers = fs::read_to_string(dir.join("dev")).ok();
        let device = numbers.as_deref().and_then(parse_numbers);
        let holder = || {
            let mut holders = fs::read_dir(dir.join("holders")).ok()?.flatten();
            holders
                .next()
                .map(|entry| format!("is held by {}", entry.file_name().to_string_lossy()))
        };
        device
            .and_then(|device| self.by_device.get(&device).cloned())
            .or_else(holder)
    }

    fn add(&mut self, device: (u32, u32), using: String) {
        self.by_device.entry(device).or_insert(using);
    }
}

pub(super) fn device_of(path: &Path) -> Option<(u32, u32)> {
    use std::os::unix::fs::FileTypeExt;
    let meta = fs::metadata(path)
        .ok()
        .filter(|meta| meta.file_type().is_block_device())?;
    Some((rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev())))
}

pub(super) fn parse_numbers(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
impl Users {
    /// For tests: one device in use.
    pub(super) fn with(device: (u32, u32), using: &str) -> Self {
        Self {
            by_device: HashMap::from([(device, using.to_owned())]),
        }
    }
}
