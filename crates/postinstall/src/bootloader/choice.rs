//! The choice of a clone's loader and of the program that the firmware is to start, and the check that the
//! clone could boot by it.

use ka_disk::spec::{Loader, SbatImage};
use ka_disk::table::TableKind;
use ka_distro::efi::{Arch, BIOS_PLATFORM, Role};

use crate::error::PostError;
use crate::esp::{self, Leads, Program};
use crate::facts::{DiskFact, Facts, Firmware};
use crate::files::Files;

use super::install::{Before, Install};

/// Chooses the loader that `-r`, else the golden node, asks for, and checks that it can boot on this node.
/// `None` if no loader shall be installed. Pure.
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
    let Some(loader) = loader else {
        return Err(PostError::Wrong(
            "the clone could not boot: the golden node has no boot loader that KA knows; name one with -r, or use -r none"
                .to_owned(),
        ));
    };
    let golden = &facts.boot.golden;
    // The golden node's own loader is there, if only as files.
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
        (Loader::Refind | Loader::Limine | Loader::Uki, Firmware::Uefi) => Install::EfiFiles {
            loader,
            esp: esp(facts)?,
        },
        (Loader::SystemdBoot | Loader::Refind | Loader::Limine | Loader::Uki, Firmware::Bios) => {
            return Err(other_firmware(loader, "UEFI", "BIOS"));
        }
        (Loader::Extlinux | Loader::Lilo, Firmware::Uefi) => {
            return Err(other_firmware(loader, "BIOS", "UEFI"));
        }
        (Loader::Extlinux, Firmware::Bios) => extlinux(facts)?,
        (Loader::Lilo, Firmware::Bios) => Install::Lilo {
            disk: boot_disk(facts)?.path.clone(),
        },
    };
    check_secure_boot(facts, loader, &install)?;
    Ok(Some(install))
}

/// Checks that this node's firmware would start it, as far as Secure Boot is concerned.
fn check_secure_boot(facts: &Facts, loader: Loader, install: &Install) -> Result<(), PostError> {
    if !facts.secure_boot {
        return Ok(());
    }
    if !matches!(install, Install::GrubUefi { shim: true, .. }) {
        return Err(PostError::Wrong(format!(
            "Secure Boot is on in this node, and the golden node has no shim for {loader}: install shim-signed and the \
             signed GRUB on the golden node, or turn Secure Boot off here"
        )));
    }
    match facts
        .boot
        .golden
        .sbat
        .iter()
        .find_map(|image| revoked(image, &facts.sbat_level))
    {
        Some(why) => Err(PostError::Wrong(format!(
            "Secure Boot is on in this node, and its firmware takes the golden node's boot loader for revoked ({why}): update \
             shim and GRUB on the golden node, or turn Secure Boot off here"
        ))),
        None => Ok(()),
    }
}

/// Returns the first component of the program that is older than the firmware's list demands (shim's
/// `SBAT.md`). Components that only one of both has do not count.
fn revoked(image: &SbatImage, level: &[(String, u32)]) -> Option<String> {
    level.iter().find_map(|(component, least)| {
        let (_, has) = image.components.iter().find(|(name, _)| name == component)?;
        (has < least).then(|| format!("{}: {component} {has}, at least {least} is wanted", image.program))
    })
}

fn other_firmware(loader: Loader, its: &str, ours: &str) -> PostError {
    PostError::Wrong(format!(
        "{loader} boots by {its} only, and this node was booted by {ours}: boot it by {its}, or choose another boot \
         loader with -r"
    ))
}

/// Returns the disk that holds /boot: its boot record leads there.
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
    if !platforms.iter().any(|platform| platform == BIOS_PLATFORM) {
        return Err(no_platform(facts, BIOS_PLATFORM, "BIOS", "grub-pc-bin"));
    }
    needs_tool(facts)?;
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
    if let Some(why) = &golden.uefi_obstacle {
        return Err(PostError::Wrong(format!("this node boots by UEFI: {why}")));
    }
    let platform = Arch::HERE.grub_platform();
    let has_platform = golden.grub_platforms.iter().any(|name| name == platform);
    if !has_platform && !golden.shim {
        return Err(no_platform(facts, platform, "UEFI", "grub-efi-amd64"));
    }
    if !golden.shim {
        needs_tool(facts)?;
    }
    Ok(Install::GrubUefi {
        esp: esp(facts)?,
        shim: golden.shim,
    })
}

fn needs_tool(facts: &Facts) -> Result<(), PostError> {
    if facts.boot.golden.tools.contains(&Loader::Grub) {
        return Ok(());
    }
    Err(PostError::Wrong(
        "the golden node has GRUB's files, but no grub-install: install GRUB's package there, or use -r none"
            .to_owned(),
    ))
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

/// Returns the mount point of an EFI system partition that firmware will find.
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
    let boot = facts.mount_of("/boot");
    // Seen with SYSLINUX 6.04: it reads the top level only, in spite of the default subvolume ("Failed to
    // load ldlinux.c32").
    if let Some(subvolume) = boot.and_then(|mount| mount.subvol.as_deref().filter(|name| !name.is_empty())) {
        return Err(PostError::Wrong(format!(
            "EXTLINUX cannot read its files in a btrfs subvolume, and /boot is in the subvolume {subvolume}: give /boot a file \
             system of its own in the desc file (-p), or install GRUB on the golden node and say -r grub"
        )));
    }
    if disk.active.is_none() || disk.active != boot.map(|mount| mount.partition) {
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

/// Returns the program for the firmware to start, as a path in the clone. It is the one that was just
/// installed, else the one that started the golden node, else the one whose configuration leads to this
/// clone.
pub(super) fn entered(
    files: &dyn Files,
    facts: &Facts,
    esp: &str,
    role: Option<Role>,
    before: &Before,
) -> Result<String, PostError> {
    let programs = esp::programs(files, esp);
    let own = facts.own_uuids();
    let fits = |program: &&Program| Some(program.role) == role;
    let is_dead = |program: &&Program| esp::leads(files, &program.dir, &own) == Leads::Elsewhere;
    let new = programs
        .iter()
        .filter(fits)
        .filter(|program| before.is_new(files, &program.path()));
    if let Ok(program) = esp::pick(files, new, &own) {
        return Ok(program.path());
    }
    let golden = facts.boot.golden.program.as_deref();
    let mut same = programs.iter().filter(fits).filter(|program| !is_dead(program));
    let same =
        same.find(|program| golden.is_some_and(|golden| program.place(esp).eq_ignore_ascii_case(golden)));
    if let Some(program) = same {
        return Ok(program.path());
    }
    match esp::pick(files, programs.iter().filter(fits), &own) {
        Ok(program) => Ok(program.path()),
        Err(none) if none.is_empty() => Err(PostError::Wrong(format!(
            "there is no boot program for this processor in a directory of its own below {esp}/EFI"
        ))),
        Err(several) => Err(PostError::Wrong(format!(
            "none of {} can be told to be the one that boots this clone: remove those that belong to no system from the golden \
             node's EFI system partition",
            several.join(", ")
        ))),
    }
}

/// Insists on a program at the fallback path: firmware boots it that has lost its variables, or never heard
/// of this disk.
pub(super) fn check_fallback(files: &dyn Files, esp: &str) -> Result<String, PostError> {
    esp::fallback(files, esp)
        .ok_or_else(|| PostError::Wrong(format!("there is no {} in {esp}/EFI/BOOT", Arch::HERE.fallback())))
}
