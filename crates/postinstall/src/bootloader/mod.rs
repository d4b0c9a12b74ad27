//! The boot loader: which one a clone gets, whether it can have it, how it is installed, and whether it is there.
//!
//! [`choose`] is asked twice: before the first write, with what the server says about the golden node, and in the clone
//! itself. The programs are the clone's own, run in it ([`crate::chroot`]). A failure here is a failed clone.

mod grub;
mod nvram;
mod others;
pub(crate) mod pe;

use std::fmt;
use std::time::Duration;

use ka_disk::spec::Loader;
use ka_disk::table::TableKind;

use crate::boot_entries;
use crate::facts::{DiskFact, Facts, Firmware};
use crate::files::Files;
use crate::plan::{Clone, Plan, PostError};

pub(crate) use grub::has_signed_parts;

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
}

impl Install {
    /// The disk whose boot record gets code; none with UEFI.
    #[must_use]
    pub fn boot_disk(&self) -> Option<&str> {
        match self {
            Self::GrubBios { disk } | Self::Extlinux { disk, .. } | Self::Lilo { disk } => Some(disk),
            Self::GrubUefi { .. } | Self::SystemdBoot { .. } => None,
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
        }
    }
}

/// What `-r`, else the golden node, asks for, and whether it can boot on this node; `None` when nothing is to be
/// installed. Pure.
///
/// # Errors
/// One line that says why this clone could not boot, and what to change.
pub fn choose(facts: &Facts) -> Result<Option<Install>, PostError> {
    let loader = match facts.boot.loader.as_deref() {
        Some("none") => return Ok(None),
        Some(word) => Some(
            word.parse::<Loader>()
                .map_err(|error| PostError::Wrong(error.to_string()))?,
        ),
        None => facts.boot.golden.loader,
    };
    let Some(loader) = loader else { return Ok(None) };
    let golden = &facts.boot.golden;
    // What the golden node boots by is there, if only as files.
    if golden.loader != Some(loader) && !golden.tools.contains(&loader) {
        return Err(PostError::Wrong(format!(
            "-r {}: the golden node has no {loader}: install it there, or choose another boot loader",
            facts.boot.loader.as_deref().unwrap_or_default()
        )));
    }
    let install = match (loader, facts.firmware) {
        (Loader::Grub, Firmware::Bios) => grub_bios(facts)?,
        (Loader::Grub, Firmware::Uefi) => grub_uefi(facts)?,
        (Loader::SystemdBoot, Firmware::Uefi) => Install::SystemdBoot { esp: esp(facts)? },
        (Loader::SystemdBoot, Firmware::Bios) => return Err(other_firmware(loader, "UEFI", "BIOS")),
        (Loader::Extlinux | Loader::Lilo, Firmware::Uefi) => {
            return Err(other_firmware(loader, "BIOS", "UEFI"));
        }
        (Loader::Extlinux, Firmware::Bios) => extlinux(facts)?,
        (Loader::Lilo, Firmware::Bios) => Install::Lilo {
            disk: boot_disk(facts)?.path.clone(),
        },
    };
    if facts.secure_boot && !matches!(install, Install::GrubUefi { shim: true, .. }) {
        return Err(PostError::Wrong(format!(
            "Secure Boot is on in this node, and the golden node has no shim for {loader}: install shim-signed and the \
             signed GRUB on the golden node, or turn Secure Boot off here"
        )));
    }
    Ok(Some(install))
}

fn other_firmware(loader: Loader, its: &str, ours: &str) -> PostError {
    PostError::Wrong(format!(
        "{loader} boots by {its} only, and this node was booted by {ours}: boot it by {its}, or choose another boot \
         loader with -r"
    ))
}

/// The disk that holds /boot: its boot record is the one that leads there.
fn boot_disk(facts: &Facts) -> Result<&DiskFact, PostError> {
    let mount = facts.mount_of("/boot").ok_or_else(|| {
        PostError::Wrong("the clone has no root file system to put a boot loader on: use -r none".to_owned())
    })?;
    facts
        .disk(&mount.disk)
        .ok_or_else(|| PostError::Wrong(format!("no disk {} to put a boot loader on", mount.disk)))
}

fn grub_bios(facts: &Facts) -> Result<Install, PostError> {
    let platforms = &facts.boot.golden.grub_platforms;
    if !platforms.iter().any(|platform| platform == grub::BIOS_PLATFORM) {
        return Err(no_platform(facts, grub::BIOS_PLATFORM, "BIOS", "grub-pc-bin"));
    }
    let disk = boot_disk(facts)?;
    if disk.table == TableKind::Gpt && !disk.has_bios_partition {
        return Err(PostError::Wrong(format!(
            "this node boots by BIOS, and {} gets a GPT without a place for GRUB: add a line `bios 1` to the desc file of \
             {} (-p), or `table mbr`",
            disk.path, disk.drive
        )));
    }
    Ok(Install::GrubBios {
        disk: disk.path.clone(),
    })
}

fn grub_uefi(facts: &Facts) -> Result<Install, PostError> {
    let golden = &facts.boot.golden;
    let platform = grub::EFI_PLATFORM;
    let has_platform = golden.grub_platforms.iter().any(|name| name == platform);
    if !has_platform && !golden.shim {
        return Err(no_platform(facts, platform, "UEFI", "grub-efi-amd64"));
    }
    Ok(Install::GrubUefi {
        esp: esp(facts)?,
        shim: golden.shim,
    })
}

fn no_platform(facts: &Facts, platform: &str, firmware: &str, package: &str) -> PostError {
    let has = facts.boot.golden.grub_platforms.join(", ");
    let has = if has.is_empty() {
        "has no GRUB".to_owned()
    } else {
        format!("has GRUB for {has} only")
    };
    PostError::Wrong(format!(
        "this node was booted by {firmware}, and the golden node {has}: install GRUB for {platform} there (Debian: \
         {package}), boot this node the other way, or use -r none"
    ))
}

/// The mount point of an EFI system partition that firmware will find.
fn esp(facts: &Facts) -> Result<String, PostError> {
    let Some(mount) = facts.esp() else {
        return Err(PostError::Wrong(
            "this node was booted by UEFI, and the clone has no EFI system partition: give the golden node one that is \
             mounted at /boot/efi, or a desc file with a line `esp 256 mount=/boot/efi` (-p)"
                .to_owned(),
        ));
    };
    let disk = facts.disk(&mount.disk);
    if disk.is_some_and(|disk| disk.esp == Some(mount.partition)) {
        return Ok(mount.path.clone());
    }
    Err(PostError::Wrong(format!(
        "partition {} of {}, mounted at {}, is not of type esp, and UEFI will not look into it: make it `esp` in the desc \
         file (-p)",
        mount.partition, mount.disk, mount.path
    )))
}

fn extlinux(facts: &Facts) -> Result<Install, PostError> {
    let disk = boot_disk(facts)?;
    let boot = facts.mount_of("/boot").map(|mount| mount.partition);
    if disk.active.is_none() || disk.active != boot {
        return Err(PostError::Wrong(format!(
            "EXTLINUX boots the active partition, and on {} that is not the one with /boot: add the word `boot` to its line \
             in the desc file (-p)",
            disk.path
        )));
    }
    Ok(Install::Extlinux {
        disk: disk.path.clone(),
        gpt: disk.table == TableKind::Gpt,
    })
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
    }
}

/// Enters the loader in the firmware's boot menu, where it has one (UEFI), and reads that back; then looks whether
/// everything is in its place. Tells what it found.
///
/// # Errors
/// What is not as it has to be.
pub fn confirm(
    clone: &Clone<'_>,
    facts: &Facts,
    install: &Install,
    told: &mut dyn FnMut(&str),
) -> Result<(), PostError> {
    let files = clone.root;
    match install {
        Install::GrubBios { .. } => grub::check_config(files, facts)?,
        Install::GrubUefi { esp, shim } => {
            grub::check_config(files, facts)?;
            let loader = grub::efi_loader(files, esp, *shim)?;
            grub::check_fallback(files, esp, *shim)?;
            nvram::enter(clone, facts, esp, &loader, told)?;
        }
        Install::SystemdBoot { esp } => {
            let loader = others::systemd_boot_loader(files, esp)?;
            boot_entries::check(files, facts)?;
            nvram::enter(clone, facts, esp, &loader, told)?;
        }
        Install::Extlinux { .. } => others::check_extlinux(files, facts)?,
        Install::Lilo { .. } => others::check_lilo(files, facts)?,
    }
    Ok(())
}

/// Looks once more when the last hook has run: at what only a hook can make anew.
///
/// # Errors
/// What is not as it has to be.
pub fn confirm_last(files: &dyn Files, facts: &Facts, install: &Install) -> Result<(), PostError> {
    match install {
        Install::SystemdBoot { .. } => boot_entries::check_unified(files, facts),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
