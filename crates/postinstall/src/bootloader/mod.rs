//! The boot loader: which one a clone gets, whether it can have it, how it is installed, and whether it is there.
//!
//! [`choose`] is asked twice: before the first write, with what the server says about the golden node, and in the clone
//! itself. The programs are the clone's own, run in it ([`crate::chroot`]). A failure here is a failed clone.

mod choice;
mod efi_files;
pub(crate) mod grub;
mod nvram;
mod others;
pub(crate) mod pe;

use std::fmt;
use std::time::Duration;

use ka_disk::spec::Loader;

use crate::boot_entries;
use crate::esp;
use crate::facts::Facts;
use crate::files::{Files, Stamp, has_program};
use crate::golden_boot::role_of;
use crate::plan::{Clone, Plan, PostError};

pub use choice::choose;

/// Installing a loader takes seconds on a machine and some minutes in an emulated one.
const LOADER_LIMIT: Duration = Duration::from_secs(1800);

/// What is going to be installed where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Install {
    /// GRUB into the boot record of a disk and the gap or partition behind it.
    GrubBios {
        /// `/dev/sda`.
        disk: String,
    },
    /// GRUB onto the EFI system partition.
    GrubUefi {
        /// Where that is mounted.
        esp: String,
        /// Through shim, so that Secure Boot goes on working.
        shim: bool,
    },
    /// systemd-boot onto the EFI system partition.
    SystemdBoot {
        /// Where that is mounted.
        esp: String,
    },
    /// EXTLINUX into the file system with `/boot`, its boot code into the disk's boot record.
    Extlinux {
        /// `/dev/sda`.
        disk: String,
        /// The disk has a GPT.
        gpt: bool,
    },
    /// LILO.
    Lilo {
        /// `/dev/sda`.
        disk: String,
    },
    /// A loader whose files on the EFI system partition are all of it: rEFInd, Limine, a unified kernel image.
    EfiFiles {
        /// Which.
        loader: Loader,
        /// Where that is mounted.
        esp: String,
    },
}

impl Install {
    /// Where the EFI system partition is mounted, of a loader that is on one.
    #[must_use]
    pub fn esp(&self) -> Option<&str> {
        match self {
            Self::GrubUefi { esp, .. } | Self::SystemdBoot { esp } | Self::EfiFiles { esp, .. } => Some(esp),
            Self::GrubBios { .. } | Self::Extlinux { .. } | Self::Lilo { .. } => None,
        }
    }

    /// The disk whose boot record gets code; none with UEFI.
    #[must_use]
    pub fn boot_disk(&self) -> Option<&str> {
        match self {
            Self::GrubBios { disk } | Self::Extlinux { disk, .. } | Self::Lilo { disk } => Some(disk),
            Self::GrubUefi { .. } | Self::SystemdBoot { .. } | Self::EfiFiles { .. } => None,
        }
    }

    /// Boot code that KA itself has to write, because the loader's own tool leaves it to others.
    ///
    /// # Errors
    /// The file with it is missing.
    pub fn boot_code(&self, files: &dyn Files) -> Result<Option<Vec<u8>>, PostError> {
        match self {
            Self::Extlinux { gpt, .. } => others::syslinux_boot_code(files, *gpt).map(Some),
            _ => Ok(None),
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

/// What is to be run and written. Pure.
///
/// # Errors
/// The clone lacks what the loader needs.
pub fn plan(files: &dyn Files, facts: &Facts, install: &Install) -> Result<Plan, PostError> {
    match install {
        Install::GrubBios { disk } => grub::bios(files, facts, disk),
        Install::GrubUefi { esp, shim } => grub::uefi(files, facts, esp, *shim),
        Install::SystemdBoot { esp } => others::systemd_boot(files, esp),
        Install::Extlinux { .. } => Ok(others::extlinux(files)),
        Install::Lilo { .. } => others::lilo(files),
        Install::EfiFiles { loader, esp } => efi_files::plan(files, facts, *loader, esp),
    }
}

/// The boot programs as they were before the loader was installed: what its tool has made is what has changed since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Before {
    stamps: Vec<(String, Stamp)>,
}

impl Before {
    /// Looks at them; to be called before the plan of [`plan`] is carried out.
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

    fn is_new(&self, files: &dyn Files, path: &str) -> bool {
        let before = self.stamps.iter().find(|(known, _)| known == path);
        files.stamp(path) != before.map(|(_, stamp)| *stamp)
    }
}

/// What the firmware is to start, found good: to be entered in its boot menu last of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EfiProgram {
    /// Where the EFI system partition is mounted.
    esp: String,
    /// The program, a path in the clone.
    path: String,
}

impl EfiProgram {
    /// Enters it in the firmware's boot menu and reads that back. Tells what it did. Firmware that keeps no entry is a
    /// warning (the value): the fallback path was found good before, and boots the clone.
    pub fn enter(&self, clone: &Clone<'_>, facts: &Facts, told: &mut dyn FnMut(&str)) -> Option<String> {
        let error = nvram::enter(clone, facts, &self.esp, &self.path, told).err()?;
        Some(format!(
            "{error}; the firmware boots this disk by its fallback path ({}) as long as nothing else is before it in its boot \
             order",
            esp::fallback(clone.root, &self.esp).unwrap_or_default()
        ))
    }
}

/// Looks whether everything is in its place, and finds the program that the firmware is to start, where it starts one (UEFI).
///
/// # Errors
/// What is not as it has to be.
pub fn confirm(
    files: &dyn Files,
    facts: &Facts,
    install: &Install,
    before: &Before,
) -> Result<Option<EfiProgram>, PostError> {
    let program = match install {
        Install::GrubBios { .. } => {
            grub::check_config(files, facts, None)?;
            None
        }
        Install::GrubUefi { esp, shim } => {
            grub::check_config(files, facts, Some(esp))?;
            let role = role_of(Loader::Grub, *shim);
            let path = choice::entered(files, facts, esp, role, before)?;
            grub::check_fallback(files, facts, esp, *shim)?;
            Some((esp, path))
        }
        Install::SystemdBoot { esp } => {
            let path = choice::entered(files, facts, esp, role_of(Loader::SystemdBoot, false), before)?;
            boot_entries::check(files, facts)?;
            choice::check_fallback(files, esp)?;
            Some((esp, path))
        }
        Install::Extlinux { .. } => {
            others::check_extlinux(files, facts)?;
            None
        }
        Install::Lilo { .. } => {
            others::check_lilo(files, facts)?;
            None
        }
        Install::EfiFiles { loader, esp } => {
            let path = efi_files::check(files, facts, *loader, esp)?;
            choice::check_fallback(files, esp)?;
            Some((esp, path))
        }
    };
    Ok(program.map(|(esp, path)| EfiProgram {
        esp: esp.clone(),
        path,
    }))
}

/// Checks the part of [`plan`] and [`confirm`] that can be told from the golden node's files, its names rewritten.
///
/// # Errors
/// The first thing that would fail each clone.
pub(crate) fn foresee(files: &dyn Files, facts: &Facts, loader: Loader) -> Result<(), PostError> {
    let esp = golden_esp(facts);
    match loader {
        Loader::Grub => grub::foresee(files, facts, esp),
        Loader::Extlinux => others::foresee_extlinux(files, facts),
        Loader::Lilo => {
            others::lilo(files)?;
            others::check_lilo(files, facts)
        }
        Loader::SystemdBoot => {
            let Some(esp) = esp else { return Ok(()) };
            others::systemd_boot(files, esp)?;
            boot_entries::check(files, facts)?;
            if !has_program(files, "bootctl") {
                entered_as_it_came(files, facts, loader, esp)?;
                choice::check_fallback(files, esp)?;
            }
            Ok(())
        }
        Loader::Refind | Loader::Limine | Loader::Uki => {
            let Some(esp) = esp else { return Ok(()) };
            efi_files::plan(files, facts, loader, esp)?;
            efi_files::check(files, facts, loader, esp).map(drop)
        }
    }
}

/// The same of a loader that BIOS starts, too: what would fail a clone on a node with UEFI.
///
/// # Errors
/// The first thing that would fail each such clone.
pub(crate) fn foresee_uefi(files: &dyn Files, facts: &Facts, loader: Loader) -> Result<(), PostError> {
    let Some(esp) = golden_esp(facts).filter(|_| loader == Loader::Grub) else {
        return Ok(());
    };
    let shim = facts.boot.golden.shim;
    if !shim || grub::installs_shim(files) {
        return Ok(());
    }
    entered_as_it_came(files, facts, loader, esp)?;
    match esp::fallback(files, esp) {
        Some(_) => grub::check_fallback(files, facts, esp, shim),
        None => Ok(()),
    }
}

/// Where nothing is installed anew, the program that the firmware is to start is told from what came.
fn entered_as_it_came(files: &dyn Files, facts: &Facts, loader: Loader, esp: &str) -> Result<(), PostError> {
    let as_it_came = Install::EfiFiles {
        loader,
        esp: esp.to_owned(),
    };
    let before = Before::of(files, &as_it_came);
    let role = role_of(loader, facts.boot.golden.shim && loader == Loader::Grub);
    choice::entered(files, facts, esp, role, &before).map(drop)
}

fn golden_esp(facts: &Facts) -> Option<&str> {
    let mounted = facts.esp().map(|mount| mount.path.as_str());
    mounted.or(facts.boot.golden.esp.as_deref())
}

/// Looks once more when the last hook has run, at what only a hook can make anew: unified kernel images, whoever starts them.
///
/// # Errors
/// What is not as it has to be.
pub fn confirm_last(files: &dyn Files, facts: &Facts) -> Result<(), PostError> {
    boot_entries::check_unified(files, facts)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
