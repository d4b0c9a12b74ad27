//! Block devices of the golden node: the drive and number of a partition, and the names that fstab may use
//! for it.
//!
//! Everything comes from sysfs and from the device itself: udev makes `/dev/disk`, and there may be no udev.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use ka_host::{HostError, block};

use super::SurveyError;
use crate::fs::{DeviceIdentity, probe};
use crate::fstab::{Tag, TaggedName};
use crate::spec::GoldenDevice;
use crate::table::{self, PartitionTable};

const SYS_BLOCK: &str = "/sys/class/block";
/// The most links of one device that are kept: a disk has a handful; a multipath one a few dozen.
const MAX_HARDWARE_LINKS: usize = 100;
/// Unit of sizes in sysfs, whatever the sector size is.
const SYS_SECTOR_BYTES: u64 = 512;

/// A block device of the golden node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockDevice {
    /// The kernel's name: `sda2`, `dm-0`.
    pub(super) name: String,
    /// Its device node.
    pub(super) node: PathBuf,
    /// Size in bytes.
    pub(super) bytes: u64,
    /// Drive and number, if it is a partition.
    pub(super) partition: Option<(String, u32)>,
}

impl BlockDevice {
    /// Returns the device of that major and minor number.
    pub(super) fn from_numbers((major, minor): (u32, u32)) -> Result<Self, HostError> {
        let link = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
        let dir = link
            .canonicalize()
            .map_err(|source| HostError::new(format!("looking for block device {major}:{minor}"), source))?;
        Ok(Self::from_sysfs(&dir))
    }

    /// Returns the device behind a node or a link to one; `None` when the path is no block device.
    pub(super) fn from_node(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path)
            .ok()
            .filter(|meta| meta.file_type().is_block_device())?;
        let device = meta.rdev();
        Self::from_numbers((rustix::fs::major(device), rustix::fs::minor(device))).ok()
    }

    /// Returns the device that the kernel calls `name`; `None` when there is none.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        let dir = Path::new(SYS_BLOCK)
            .join(name.replace('/', "!"))
            .canonicalize()
            .ok()?;
        Some(Self::from_sysfs(&dir))
    }

    /// Lists all block devices that can hold a file system of the golden node. These are the devices with a
    /// size (drives without a disk in them have none), except floppy drives, which take seconds to report
    /// that they are empty.
    pub(super) fn all() -> Result<Vec<Self>, HostError> {
        let entries = fs::read_dir(SYS_BLOCK)
            .map_err(|source| HostError::new(format!("listing block devices in {SYS_BLOCK}"), source))?;
        let mut found: Vec<Self> = entries
            .flatten()
            .filter(|entry| read_number(&entry.path().join("size")).is_some_and(|size| size > 0))
            .filter_map(|entry| entry.path().canonicalize().ok())
            .map(|dir| Self::from_sysfs(&dir))
            .filter(|device| !device.name.starts_with("fd"))
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Returns the kernel's own name of a volume that has another one: `/dev/dm-3`.
    fn kernel_name(&self) -> Option<String> {
        let own = Path::new("/dev").join(&self.name);
        (self.node != own).then(|| own.to_string_lossy().into_owned())
    }

    /// Returns the drive itself, or the drive that the partition is on.
    pub(super) fn drive(&self) -> &str {
        self.partition.as_ref().map_or(&self.name, |(drive, _)| drive)
    }

    fn from_sysfs(dir: &Path) -> Self {
        let name_of = |dir: &Path| {
            dir.file_name()
                .map(|name| name.to_string_lossy().replace('!', "/"))
        };
        let name = name_of(dir).unwrap_or_default();
        let number = read_number(&dir.join("partition")).and_then(|number| u32::try_from(number).ok());
        let partition = number
            .zip(dir.parent().and_then(name_of))
            .map(|(number, drive)| (drive, number));
        let sectors = read_number(&dir.join("size")).unwrap_or(0);
        // The usual name of `dm-3` is in `/dev/mapper`.
        let mapped = fs::read_to_string(dir.join("dm/name")).ok();
        let mapped = mapped.map(|name| Path::new("/dev/mapper").join(name.trim()));
        let node = mapped
            .filter(|node| node.exists())
            .unwrap_or_else(|| Path::new("/dev").join(&name));
        Self {
            node,
            name,
            bytes: sectors * SYS_SECTOR_BYTES,
            partition,
        }
    }
}

/// A golden drive with its table.
#[derive(Debug, Clone)]
pub(super) struct Drive {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) sector_size: u32,
    pub(super) table: Option<PartitionTable>,
}

impl Drive {
    /// Opens and reads the drive; `None` when the golden node has no drive of that name.
    pub(super) fn open(name: &str) -> Result<Option<Self>, SurveyError> {
        let Some(device) = BlockDevice::from_name(name) else {
            return Ok(None);
        };
        let failed = |what: &str, source| HostError::new(format!("{what} {}", device.node.display()), source);
        let file = File::open(&device.node).map_err(|source| failed("opening", source))?;
        let bytes = block::size_bytes(&file).map_err(|source| failed("asking the size of", source))?;
        let sector_size =
            block::sector_size(&file).map_err(|source| failed("asking the sector size of", source))?;
        let table = table::read(&file, sector_size).map_err(|error| SurveyError::Device {
            device: device.node.clone(),
            problem: format!("reading its partition table: {error}"),
        })?;
        Ok(Some(Self {
            name: name.to_owned(),
            bytes,
            sector_size,
            table,
        }))
    }
}

/// A device with all its names.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) block: BlockDevice,
    pub(super) identity: DeviceIdentity,
    pub(super) partuuid: Option<String>,
    pub(super) partlabel: Option<String>,
}

impl Named {
    /// Probes the device, and its drive's table for the names that a partition has.
    pub(super) fn probe(block: BlockDevice) -> Result<Self, SurveyError> {
        let identity = probe(&block.node)?;
        let table = match &block.partition {
            Some((drive, _)) => Drive::open(drive)?.and_then(|drive| drive.table),
            None => None,
        };
        let number = block.partition.as_ref().map_or(0, |(_, number)| *number);
        let partition = table
            .as_ref()
            .and_then(|table| Some((table, table.find(number)?)));
        let partlabel = partition.and_then(|(_, partition)| partition.name.clone());
        let partuuid = partition.and_then(|(table, partition)| table.partuuid(partition));
        Ok(Self {
            block,
            identity,
            partuuid,
            partlabel,
        })
    }

    /// True if an fstab field means this device; `None` when that cannot be known here, as with
    /// `/dev/disk/by-id/…` on a machine without udev.
    pub(super) fn is_meant_by(&self, spec: &str) -> Option<bool> {
        if let Some(name) = TaggedName::parse(spec) {
            let have = match name.tag {
                Tag::Uuid => &self.identity.uuid,
                Tag::PartUuid => &self.partuuid,
                Tag::Label => &self.identity.label,
                Tag::PartLabel => &self.partlabel,
            };
            return Some(name.is(have.as_deref()));
        }
        match BlockDevice::from_node(Path::new(spec)) {
            Some(device) => Some(device.name == self.block.name),
            None if spec.starts_with("/dev/disk/") || !spec.starts_with("/dev/") => None,
            None => Some(false),
        }
    }

    /// Returns the device as the spec describes it to the nodes.
    pub(super) fn golden(&self, alias: Option<&str>) -> GoldenDevice {
        GoldenDevice {
            path: self.block.node.to_string_lossy().into_owned(),
            uuid: self.identity.uuid.clone(),
            partuuid: self.partuuid.clone(),
            label: self.identity.label.clone(),
            partlabel: self.partlabel.clone(),
            aliases: alias
                .map(str::to_owned)
                .into_iter()
                .chain(self.block.kernel_name())
                .chain(hardware_links(&self.block))
                .collect(),
        }
    }
}

/// Lists udev's links to the device by hardware name and by path: kernel command lines may use them.
fn hardware_links(block: &BlockDevice) -> Vec<String> {
    let Ok(node) = block.node.canonicalize() else {
        return Vec::new();
    };
    // The links by tag are known from the device itself.
    let tags = ["by-uuid", "by-partuuid", "by-label", "by-partlabel"];
    let dirs = fs::read_dir("/dev/disk").into_iter().flatten().flatten();
    let dirs = dirs
        .filter(|dir| !tags.iter().any(|tag| dir.file_name() == *tag))
        .map(|dir| dir.path())
        // Arrays have links by name.
        .chain([Path::new("/dev/md").to_owned()]);
    let links = dirs
        .filter_map(|dir| fs::read_dir(dir).ok())
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|link| link.canonicalize().is_ok_and(|target| target == node));
    links
        .take(MAX_HARDWARE_LINKS)
        .map(|link| link.to_string_lossy().into_owned())
        .collect()
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_known_by_the_kernels_name_too() {
        let named = Named {
            block: BlockDevice {
                node: "/dev/mapper/vg-root".into(),
                name: "dm-3".to_owned(),
                bytes: 1 << 20,
                partition: None,
            },
            identity: DeviceIdentity::default(),
            partuuid: None,
            partlabel: None,
        };
        let golden = named.golden(Some("/dev/vg/root"));
        assert_eq!(golden.path, "/dev/mapper/vg-root");
        assert_eq!(golden.aliases, ["/dev/vg/root", "/dev/dm-3"]);
    }

    #[test]
    fn our_own_devices_are_listed_and_none_is_a_directory() {
        for device in BlockDevice::all().unwrap() {
            assert_eq!(BlockDevice::from_name(&device.name), Some(device.clone()));
        }
        assert_eq!(BlockDevice::from_node(Path::new("/")), None);
    }
}
