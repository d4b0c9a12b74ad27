//! What the plans are made from: this node, its new disks, and how the golden node boots.

use std::path::Path;

use ka_disk::spec::{BootSpec, GoldenBoot, KnownDevice, Loader};
use ka_disk::table::TableKind;

use crate::files::{Files, first_of, has_program};
use crate::fstab::{CloneDevice, DeviceMap};

/// Where an EFI system partition is mounted, the usual place first.
pub(crate) const ESP_PLACES: [&str; 3] = ["/boot/efi", "/efi", "/boot"];

/// What has started this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// A PC BIOS, or UEFI that behaves like one (CSM).
    Bios,
    /// UEFI.
    Uefi,
}

impl Firmware {
    /// What the running kernel was started by; `sys` is `/sys`.
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
    /// The golden node has another type there: options of that one mean nothing here.
    pub is_new_type: bool,
    /// The btrfs subvolume, without a leading slash; empty for the top level.
    pub subvol: Option<String>,
}

/// A swap file of the clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwapFileFact {
    /// Its path in the clone.
    pub path: String,
    /// Its first page on the device, in pages of 4 KiB (kernel, `Documentation/power/swsusp-and-swap-files.rst`);
    /// `None` where that is not known.
    pub offset_pages: Option<u64>,
}

/// Everything that the plans know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// This node's name.
    pub node_name: String,
    /// The hardware address by which it was booted or is known.
    pub mac: Option<String>,
    /// The golden node's name.
    pub golden_host: String,
    /// The session it was cloned in.
    pub session: String,
    /// The server it was cloned from.
    pub server: String,
    /// What has started this machine.
    pub firmware: Firmware,
    /// Secure Boot is on.
    pub secure_boot: bool,
    /// Clones keep the golden UUIDs: then finding one in a file is no mistake.
    pub keep_uuids: bool,
    /// The disks, in the order of the golden drives.
    pub disks: Vec<DiskFact>,
    /// All partitions of these disks that have a device node.
    pub partitions: Vec<CloneDevice>,
    /// Which golden device became which of ours.
    pub devices: Vec<DeviceMap>,
    /// Golden partitions that the clone has, too, with nothing on them.
    pub bare: Vec<DeviceMap>,
    /// All drives, partitions and volumes of the golden node.
    pub known: Vec<KnownDevice>,
    /// Swap files that were made anew.
    pub swap_files: Vec<SwapFileFact>,
    /// The mounts, root first.
    pub mounts: Vec<MountFact>,
    /// What the server wants.
    pub boot: BootSpec,
}

impl Facts {
    /// The mount that holds `path`.
    #[must_use]
    pub fn mount_of(&self, path: &str) -> Option<&MountFact> {
        self.mounts
            .iter()
            .filter(|mount| Path::new(path).starts_with(&mount.path))
            .max_by_key(|mount| mount.path.len())
    }

    /// The disk with this device.
    #[must_use]
    pub fn disk(&self, path: &str) -> Option<&DiskFact> {
        self.disks.iter().find(|disk| disk.path == path)
    }

    /// Where the EFI system partition is mounted: a FAT file system in one of the usual places.
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

/// How the system behind `files` boots: on the golden node, to be told to the nodes, and in the clone.
///
/// A loader counts when its configuration is there; GRUB also when it can be installed and there is a kernel to boot.
#[must_use]
pub fn detect(files: &dyn Files) -> GoldenBoot {
    let esp = ESP_PLACES
        .into_iter()
        .find(|place| !efi_directories(files, place).is_empty());
    GoldenBoot {
        loader: loader(files, esp),
        tools: tools(files),
        grub_platforms: grub_platforms(files),
        shim: crate::bootloader::has_signed_parts(files)
            || esp.is_some_and(|esp| shim_directory(files, esp).is_some()),
        esp: esp.map(ToOwned::to_owned),
    }
}

/// The vendor directories of an EFI system partition, as they stand there.
pub(crate) fn efi_directories(files: &dyn Files, esp: &str) -> Vec<String> {
    let Some(efi) = efi_root(files, esp) else {
        return Vec::new();
    };
    files
        .names(&efi)
        .into_iter()
        .map(|name| format!("{efi}/{name}"))
        .collect()
}

/// FAT keeps the case that a name was made with, and the kernel takes any: a copy on another file system does not.
pub(crate) fn efi_root(files: &dyn Files, esp: &str) -> Option<String> {
    ["EFI", "efi"]
        .map(|name| format!("{esp}/{name}"))
        .into_iter()
        .find(|path| files.exists(path))
}

/// The directory in which the golden node's shim is, but for the fallback one.
pub(crate) fn shim_directory(files: &dyn Files, esp: &str) -> Option<String> {
    efi_directories(files, esp)
        .into_iter()
        .filter(|dir| !dir.to_ascii_lowercase().ends_with("/boot"))
        .find(|dir| {
            files
                .names(dir)
                .iter()
                .any(|name| name.to_ascii_lowercase().starts_with("shim") && is_efi(name))
        })
}

pub(crate) fn is_efi(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".efi")
}

fn loader(files: &dyn Files, esp: Option<&str>) -> Option<Loader> {
    let grub_tool = has_program(files, "grub-install") || has_program(files, "grub2-install");
    let configured = first_of(files, &["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"]).is_some();
    let signed_grub = esp.is_some_and(|esp| shim_directory(files, esp).is_some());
    if configured && (grub_tool || signed_grub) {
        return Some(Loader::Grub);
    }
    let systemd_boot = esp.is_some_and(|esp| {
        efi_directories(files, esp).iter().any(|dir| {
            files
                .names(dir)
                .iter()
                .any(|name| name.starts_with("systemd-boot"))
        })
    });
    if systemd_boot {
        return Some(Loader::SystemdBoot);
    }
    let extlinux = ["/boot/extlinux/extlinux.conf", "/boot/syslinux/syslinux.cfg"];
    if first_of(files, &extlinux).is_some() && has_program(files, "extlinux") {
        return Some(Loader::Extlinux);
    }
    if files.exists("/etc/lilo.conf") && has_program(files, "lilo") {
        return Some(Loader::Lilo);
    }
    let has_kernel = !crate::initramfs::releases(files).is_empty();
    (grub_tool && has_kernel && !grub_platforms(files).is_empty()).then_some(Loader::Grub)
}

/// The loaders that can be installed here, by their tools.
fn tools(files: &dyn Files) -> Vec<Loader> {
    [
        ("grub-install", Loader::Grub),
        ("grub2-install", Loader::Grub),
        ("bootctl", Loader::SystemdBoot),
        ("extlinux", Loader::Extlinux),
        ("lilo", Loader::Lilo),
    ]
    .into_iter()
    .filter(|(name, _)| has_program(files, name))
    .map(|(_, loader)| loader)
    .collect()
}

/// The platforms that GRUB is there for, by the directories with its modules.
fn grub_platforms(files: &dyn Files) -> Vec<String> {
    let mut platforms: Vec<String> = ["/usr/lib/grub", "/usr/lib/grub2", "/usr/share/grub2"]
        .iter()
        .flat_map(|dir| files.names(dir).into_iter().map(move |name| (dir, name)))
        .filter(|(dir, name)| files.exists(&format!("{dir}/{name}/modinfo.sh")))
        .map(|(_, name)| name)
        .collect();
    platforms.sort();
    platforms.dedup();
    platforms
}

#[cfg(test)]
#[path = "facts_tests.rs"]
pub(crate) mod tests;
