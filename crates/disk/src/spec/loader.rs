//! Boot loaders, and the golden node's way to boot.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The golden node's way to boot, as its files show it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoldenBoot {
    /// Boot loader; `None` if there is none (a data disk) or none that KA knows.
    pub loader: Option<Loader>,
    /// Loaders with their own tools installed.
    pub tools: Vec<Loader>,
    /// Platforms for which it can install GRUB: `i386-pc`, `x86_64-efi`.
    pub grub_platforms: Vec<String>,
    /// True if it boots through shim: no unsigned program may take its place.
    pub shim: bool,
    /// Mount point of its EFI system partition: `/boot/efi`.
    pub esp: Option<String>,
    /// The EFI program that starts the system, with slashes from the partition's root:
    /// `/EFI/ubuntu/shimx64.efi`. It is the one that the firmware has started, else the one in the
    /// distribution's directory.
    pub program: Option<String>,
    /// The reason why no node that UEFI has started could boot as a clone; `None` if no reason is known.
    pub uefi_obstacle: Option<String>,
    /// Names and generations of shim and GRUB for Secure Boot revocation (SBAT).
    pub sbat: Vec<SbatImage>,
}

/// An EFI program's own list of components and their generations (shim's `SBAT.md`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SbatImage {
    /// Path of the program: `/EFI/debian/shimx64.efi`.
    pub program: String,
    /// Component and generation: `shim`, 4.
    pub components: Vec<(String, u32)>,
}

/// The boot loaders that KA installs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loader {
    /// GRUB 2, for BIOS or UEFI.
    Grub,
    /// systemd-boot, UEFI only.
    SystemdBoot,
    /// EXTLINUX of the syslinux project, BIOS only.
    Extlinux,
    /// LILO, BIOS only.
    Lilo,
    /// rEFInd, UEFI only: its files, as they are on the golden node.
    Refind,
    /// Limine, here UEFI only: its files, as they are on the golden node.
    Limine,
    /// No boot loader: the firmware starts a unified kernel image by itself.
    Uki,
}

impl fmt::Display for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grub => "GRUB",
            Self::SystemdBoot => "systemd-boot",
            Self::Extlinux => "EXTLINUX",
            Self::Lilo => "LILO",
            Self::Refind => "rEFInd",
            Self::Limine => "Limine",
            Self::Uki => "a unified kernel image",
        })
    }
}

/// A word that is no boot loader.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("-r {0}: write grub, systemd-boot, extlinux, lilo, refind, limine, uki or none")]
pub struct UnknownLoader(pub String);

impl FromStr for Loader {
    type Err = UnknownLoader;

    /// Reads the names that people and packages use.
    fn from_str(word: &str) -> Result<Self, UnknownLoader> {
        match word {
            "grub" | "grub2" | "grub-pc" | "grub-efi" => Ok(Self::Grub),
            "systemd-boot" | "sd-boot" | "bootctl" | "gummiboot" => Ok(Self::SystemdBoot),
            "extlinux" | "syslinux" => Ok(Self::Extlinux),
            "lilo" => Ok(Self::Lilo),
            "refind" => Ok(Self::Refind),
            "limine" => Ok(Self::Limine),
            "uki" | "efistub" => Ok(Self::Uki),
            _ => Err(UnknownLoader(word.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loader_is_found_by_its_name_and_others_are_named() {
        for (word, loader) in [
            ("grub", Loader::Grub),
            ("systemd-boot", Loader::SystemdBoot),
            ("extlinux", Loader::Extlinux),
            ("lilo", Loader::Lilo),
            ("refind", Loader::Refind),
            ("limine", Loader::Limine),
            ("uki", Loader::Uki),
        ] {
            assert_eq!(word.parse(), Ok(loader));
        }
        let error = "loadlin".parse::<Loader>().unwrap_err().to_string();
        assert!(error.contains("-r loadlin") && error.contains("lilo"), "{error}");
    }
}
