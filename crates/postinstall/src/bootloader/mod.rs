//! The boot loader: the choice for a clone, the check that it can have it, its installation, and the check
//! that it is there.
//!
//! [`choose`] is called twice: before the first write, with the server's facts about the golden node, and in
//! the clone itself. The programs are the clone's own, run in it ([`crate::chroot`]). A failure here is a
//! failed clone.

mod choice;
mod efi_files;
pub(crate) mod grub;
mod install;
mod nvram;
mod others;
pub(crate) mod pe;

use ka_disk::spec::Loader;

use crate::boot_entries;
use crate::error::PostError;
use crate::esp;
use crate::facts::Facts;
use crate::files::{Files, has_program};
use crate::plan::{Destination, Plan};

pub use choice::choose;
pub use install::{Before, Install};

impl Install {
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

/// Plans the programs to run and the files to write. Pure.
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

/// The program that the firmware is to start, found good: to be entered in its boot menu last of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EfiProgram {
    /// The directory where the EFI system partition is mounted.
    esp: String,
    /// The program, a path in the clone.
    path: String,
}

impl EfiProgram {
    /// Enters the loader in the firmware's boot menu and reads that back. Returns lines about it. Firmware
    /// that keeps no entry is a warning (the value): the fallback path was found good before, and boots the
    /// clone.
    pub fn enter(
        &self,
        clone: &Destination<'_>,
        facts: &Facts,
        told: &mut dyn FnMut(&str),
    ) -> Option<String> {
        let error = nvram::enter(clone, facts, &self.esp, &self.path, told).err()?;
        Some(format!(
            "{error}; the firmware boots this disk by its fallback path ({}) as long as nothing else is before it in its boot \
             order",
            esp::fallback(clone.root, &self.esp).unwrap_or_default()
        ))
    }
}

/// Checks that everything is in its place, and finds the program for the firmware to start, if it starts one
/// (UEFI).
///
/// # Errors
/// Something is not as it has to be.
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
            let role = esp::role_of(Loader::Grub, *shim);
            let path = choice::entered(files, facts, esp, role, before)?;
            grub::check_fallback(files, facts, esp, *shim)?;
            Some((esp, path))
        }
        Install::SystemdBoot { esp } => {
            let path = choice::entered(
                files,
                facts,
                esp,
                esp::role_of(Loader::SystemdBoot, false),
                before,
            )?;
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

/// Checks the part of [`plan`] and [`confirm`] that can be told from the golden node's files, its names
/// rewritten.
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

/// Finds the program for the firmware to start among those that came with the tree, if no loader is installed
/// anew.
fn entered_as_it_came(files: &dyn Files, facts: &Facts, loader: Loader, esp: &str) -> Result<(), PostError> {
    let as_it_came = Install::EfiFiles {
        loader,
        esp: esp.to_owned(),
    };
    let before = Before::of(files, &as_it_came);
    let role = esp::role_of(loader, facts.boot.golden.shim && loader == Loader::Grub);
    choice::entered(files, facts, esp, role, &before).map(drop)
}

fn golden_esp(facts: &Facts) -> Option<&str> {
    let mounted = facts.esp().map(|mount| mount.path.as_str());
    mounted.or(facts.boot.golden.esp.as_deref())
}

/// Checks once more after the last hook, and only files that a hook alone can make anew: unified kernel
/// images, with any starter.
///
/// # Errors
/// Something is not as it has to be.
pub fn confirm_last(files: &dyn Files, facts: &Facts) -> Result<(), PostError> {
    boot_entries::check_unified(files, facts)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
