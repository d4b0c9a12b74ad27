//! The facts from which plans are made: this node, its new disks, and the golden node's way to boot.

use std::path::Path;

use ka_disk::spec::{BootSpec, KnownDevice};
use ka_disk::table::TableKind;
use ka_distro::config::ESP_PLACES;

use crate::fstab::{CloneDevice, DeviceMap};

/// The firmware that started this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// A PC BIOS, or UEFI that behaves like one (CSM).
    Bios,
    /// A UEFI firmware.
    Uefi,
}

impl Firmware {
    /// Returns the firmware that started the running kernel; `sys` is `/sys`.
    #[must_use]
    pub fn of(sys: &Path) -> Self {
        if sys.join("firmware/efi").is_dir() {
            Self::Uefi
        } else {
            Self::Bios
        }
    }

    /// For the environment of hooks.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
        }
    }
}

/// A disk of the clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFact {
    /// Golden name of the drive, without `/dev/`.
    pub drive: String,
    /// Its device here: `/dev/nvme0n1`.
    pub path: String,
    /// Its kind of table.
    pub table: TableKind,
    /// It has a partition for GRUB's core image.
    pub has_bios_partition: bool,
    /// Number of the first partition that is an EFI system partition by type.
    pub esp: Option<u32>,
    /// Number of the active partition (or, on GPT, the legacy bootable one).
    pub active: Option<u32>,
}

/// The partitions that a machine's boot entries may name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownPartitions {
    /// PARTUUIDs that were on the disks which become the clone's: nothing of them is left.
    pub erased: Vec<String>,
    /// PARTUUIDs on all other disks; none where a disk could not be read.
    pub kept: Option<Vec<String>>,
}

/// A mounted file system of the clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFact {
    /// Mount point in the clone.
    pub path: String,
    /// Its device.
    pub device: CloneDevice,
    /// Disk and partition number.
    pub disk: String,
    /// Partition number.
    pub partition: u32,
    /// Type, as fstab names it.
    pub fstype: String,
    /// True if the golden node has another type there. Options of that type mean nothing here.
    pub is_new_type: bool,
    /// The btrfs subvolume, without a leading slash; empty for the top level.
    pub subvol: Option<String>,
}

/// A swap file of the clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwapFileFact {
    /// Its path in the clone.
    pub path: String,
    /// Its first page on the device, in pages of 4 KiB (kernel,
    /// `Documentation/power/swsusp-and-swap-files.rst`); `None` where that is not known.
    pub offset_pages: Option<u64>,
}

/// Everything that the plans know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// This node's name.
    pub node_name: String,
    /// MAC address by which it was booted or is known.
    pub mac: Option<String>,
    /// The golden node's name.
    pub golden_host: String,
    /// The session it was cloned in.
    pub session: String,
    /// The server it was cloned from.
    pub server: String,
    /// The firmware that started this machine.
    pub firmware: Firmware,
    /// Secure Boot is on.
    pub secure_boot: bool,
    /// The firmware's list of revoked programs (shim's variable `SbatLevelRT`): component and the least
    /// generation that is not revoked.
    pub sbat_level: Vec<(String, u32)>,
    /// PARTUUIDs on this machine before anything was written.
    pub known_partitions: KnownPartitions,
    /// Clones keep the golden UUIDs: then finding one in a file is no mistake.
    pub keep_uuids: bool,
    /// The disks, in the order of the golden drives.
    pub disks: Vec<DiskFact>,
    /// All partitions of these disks that have a device node.
    pub partitions: Vec<CloneDevice>,
    /// The pairs of golden device and new device.
    pub devices: Vec<DeviceMap>,
    /// Golden partitions that the clone has, too, with nothing on them.
    pub bare: Vec<DeviceMap>,
    /// All drives, partitions and volumes of the golden node.
    pub known: Vec<KnownDevice>,
    /// Swap files that were made anew.
    pub swap_files: Vec<SwapFileFact>,
    /// The mounts, root first.
    pub mounts: Vec<MountFact>,
    /// The server's wishes about the boot.
    pub boot: BootSpec,
}

impl Facts {
    /// Returns the mount that holds `path`.
    #[must_use]
    pub fn mount_of(&self, path: &str) -> Option<&MountFact> {
        self.mounts
            .iter()
            .filter(|mount| Path::new(path).starts_with(&mount.path))
            .max_by_key(|mount| mount.path.len())
    }

    /// Returns the disk with this device.
    #[must_use]
    pub fn disk(&self, path: &str) -> Option<&DiskFact> {
        self.disks.iter().find(|disk| disk.path == path)
    }

    /// Returns the UUIDs of the clone's file systems.
    #[must_use]
    pub fn own_uuids(&self) -> Vec<&str> {
        let clones = self.devices.iter().filter_map(|map| map.clone.uuid.as_deref());
        clones.collect()
    }

    /// Returns the mount point of the EFI system partition: a FAT file system in one of the usual places.
    #[must_use]
    pub fn esp(&self) -> Option<&MountFact> {
        let is_fat = |mount: &&MountFact| matches!(mount.fstype.as_str(), "vfat" | "fat" | "msdos");
        let golden = self.boot.golden.esp.as_deref();
        golden.into_iter().chain(ESP_PLACES).find_map(|place| {
            let mut mounts = self.mounts.iter().filter(is_fat);
            mounts.find(|mount| mount.path == place)
        })
    }
}

#[cfg(test)]
#[path = "facts_tests.rs"]
pub(crate) mod tests;
