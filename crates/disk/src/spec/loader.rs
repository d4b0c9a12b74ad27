//! Boot loaders, and how the golden node boots.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How the golden node boots, as its files tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GoldenBoot {
    /// Its boot loader; `None` where there is none (a data disk) or none that KA knows.
    pub loader: Option<Loader>,
    /// The loaders whose own tools are installed.
    pub tools: Vec<Loader>,
    /// The platforms that it can install GRUB for: `i386-pc`, `x86_64-efi`.
    pub grub_platforms: Vec<String>,
    /// It boots through shim: nothing unsigned may take its place.
    pub shim: bool,
    /// Where its EFI system partition is mounted: `/boot/efi`.
    pub esp: Option<String>,
    /// The program on it that starts the system, with slashes from the partition's root: `/EFI/ubuntu/shimx64.efi`. The one
    /// that its firmware has started, else the one in its distribution's directory.
    pub program: Option<String>,
    /// Why no node that UEFI has started could boot as a clone; `None` where nothing is known against it.
    pub uefi_obstacle: Option<String>,
    /// What Secure Boot revocation knows shim and GRUB by.
    pub sbat: Vec<SbatImage>,
}

/// An EFI program's own list of components and their generations (shim's `SBAT.md`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SbatImage {
    /// The program: `/EFI/debian/shimx64.efi`.
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
    /// rEFInd, UEFI only: its files, as they came.
    Refind,
    /// Limine, here UEFI only: its files, as they came.
    Limine,
    /// None: the firmware starts a unified kernel image by itself.
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

    /// The names that people and packages use.
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
