//! The boot loader to be installed, and the boot programs that were there before.

use std::fmt;
use std::time::Duration;

use ka_disk::spec::Loader;

use crate::esp;
use crate::files::{Files, Stamp};

/// Installing a loader takes seconds on a machine and some minutes in an emulated one.
pub(super) const LOADER_LIMIT: Duration = Duration::from_secs(1800);

/// The boot loader to be installed, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Install {
    /// GRUB into the boot record of a disk and the gap or partition behind it.
    GrubBios {
        /// Path of the disk, such as `/dev/sda`.
        disk: String,
    },
    /// GRUB onto the EFI system partition.
    GrubUefi {
        /// The directory where that is mounted.
        esp: String,
        /// Through shim, so that Secure Boot goes on working.
        shim: bool,
    },
    /// systemd-boot onto the EFI system partition.
    SystemdBoot {
        /// The directory where that is mounted.
        esp: String,
    },
    /// EXTLINUX into the file system with `/boot`, its boot code into the disk's boot record.
    Extlinux {
        /// Path of the disk, such as `/dev/sda`.
        disk: String,
        /// The disk has a GPT.
        gpt: bool,
    },
    /// LILO into the boot record of a disk.
    Lilo {
        /// Path of the disk, such as `/dev/sda`.
        disk: String,
    },
    /// A loader whose files on the EFI system partition are all of it: rEFInd, Limine, a unified kernel
    /// image.
    EfiFiles {
        /// The loader.
        loader: Loader,
        /// The directory where that is mounted.
        esp: String,
    },
}

impl Install {
    /// Returns the directory where the EFI system partition is mounted, of a loader that is on one.
    #[must_use]
    pub fn esp(&self) -> Option<&str> {
        match self {
            Self::GrubUefi { esp, .. } | Self::SystemdBoot { esp } | Self::EfiFiles { esp, .. } => Some(esp),
            Self::GrubBios { .. } | Self::Extlinux { .. } | Self::Lilo { .. } => None,
        }
    }

    /// Returns the disk whose boot record gets code; none with UEFI.
    #[must_use]
    pub fn boot_disk(&self) -> Option<&str> {
        match self {
            Self::GrubBios { disk } | Self::Extlinux { disk, .. } | Self::Lilo { disk } => Some(disk),
            Self::GrubUefi { .. } | Self::SystemdBoot { .. } | Self::EfiFiles { .. } => None,
        }
    }
}

impl fmt::Display for Install {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GrubBios { disk } => write!(f, "GRUB for BIOS on {disk}"),
            Self::GrubUefi { esp, shim: false } => write!(f, "GRUB for UEFI in {esp}"),
            Self::GrubUefi { esp, shim: true } => write!(f, "GRUB for UEFI behind shim in {esp}"),
            Self::SystemdBoot { esp } => write!(f, "systemd-boot in {esp}"),
            Self::Extlinux { disk, .. } => write!(f, "EXTLINUX on {disk}"),
            Self::Lilo { disk } => write!(f, "LILO on {disk}"),
            Self::EfiFiles { loader, esp } => write!(f, "{loader} in {esp}"),
        }
    }
}

/// The boot programs as they were before the loader was installed. Its tool has made those that have changed
/// since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Before {
    stamps: Vec<(String, Stamp)>,
}

impl Before {
    /// Looks at them; to be called before the plan of [`super::plan()`] is carried out.
    #[must_use]
    pub fn of(files: &dyn Files, install: &Install) -> Self {
        let programs = install
            .esp()
            .map(|esp| esp::programs(files, esp))
            .unwrap_or_default();
        let paths = programs.iter().map(esp::Program::path);
        let stamps = paths.filter_map(|path| Some((path.clone(), files.stamp(&path)?)));
        Self {
            stamps: stamps.collect(),
        }
    }

    /// True when the program was made or changed since.
    pub(super) fn is_new(&self, files: &dyn Files, path: &str) -> bool {
        let before = self.stamps.iter().find(|(known, _)| known == path);
        files.stamp(path) != before.map(|(_, stamp)| *stamp)
    }
}
