//! The golden node's way to boot, which the nodes are told. A system whose clones could not boot is refused
//! before the first write.
//!
//! A loader counts if its configuration and the files for its installation exist.

use ka_disk::spec::{BootSpec, GoldenBoot, Loader, SbatImage};
use ka_distro::config::{
    BOARD_FILES, ESP_PLACES, EXTLINUX_CONFIGS, GRUB_CONFIGS, GRUB_MODULES, LIMINE_CONFIGS, OLD_GRUB_CONFIGS,
};
use ka_distro::efi::{self, Role};
use ka_distro::kernel;

use crate::boot_entries;
use crate::bootloader::{grub, pe};
use crate::error::PostError;
use crate::esp::{self, Program};
use crate::files::{Files, first_of, has_program, text};
use crate::kernels::releases;

/// The facts about a golden node that are not in its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// UUIDs of its file systems.
    pub uuids: Vec<String>,
    /// EFI program that its firmware has started, if this machine is the golden node:
    /// `\EFI\debian\shimx64.efi`.
    pub started: Option<String>,
}

/// Finds out how the system behind `files` boots.
#[must_use]
pub fn detect(files: &dyn Files, known: &Known) -> GoldenBoot {
    let esp = ESP_PLACES
        .into_iter()
        .find(|place| !esp::directories(files, place).is_empty());
    let programs = esp.map(|esp| esp::programs(files, esp)).unwrap_or_default();
    let started = esp.and_then(|esp| started(&programs, esp, known));
    let loader = loader(files, esp, &programs, started);
    let program = esp.and_then(|esp| program(files, esp, &programs, loader?, known));
    GoldenBoot {
        loader,
        tools: tools(files, &programs),
        grub_platforms: grub_platforms(files),
        shim: grub::has_signed_parts(files) || programs.iter().any(|program| program.role == Role::Shim),
        sbat: esp
            .and_then(|esp| Some(sbat(files, esp, program.as_ref()?)))
            .unwrap_or_default(),
        program: esp.and_then(|esp| Some(program?.place(esp))),
        esp: esp.map(ToOwned::to_owned),
        uefi_obstacle: None,
    }
}

/// Checks that a clone could boot: a kernel with its modules, and a known boot loader, except with `-r none`.
/// Returns warnings for the operator.
///
/// # Errors
/// One line that says what is missing on the golden node, and what to do.
pub fn check(files: &dyn Files, boot: &BootSpec) -> Result<Vec<String>, PostError> {
    if boot.loader.as_deref() == Some("none") {
        return Ok(Vec::new());
    }
    if let Some(why) = made_from_a_store(files) {
        return Err(PostError::Wrong(format!(
            "a clone of this golden node could not boot: {why}. -r none clones it all the same, without a boot loader"
        )));
    }
    let loader = boot.golden.loader;
    if loader.is_none() && boot.loader.is_none() {
        return Err(PostError::Wrong(format!(
            "a clone of this golden node could not boot: {}. -r none clones it all the same, without a boot loader",
            why_no_loader(files)
        )));
    }
    check_kernels(files)?;
    if boot.loader.is_none() && loader == Some(Loader::Grub) {
        grub::check_golden(files, boot.golden.esp.as_deref())?;
    }
    Ok(kernels_without_modules(files))
}

/// Returns the boot loader that started this machine, if its program is a known one.
fn started<'a>(programs: &'a [Program], esp: &str, known: &Known) -> Option<&'a Program> {
    let place = known.started.as_deref()?.replace('\\', "/");
    programs
        .iter()
        .find(|program| program.place(esp).eq_ignore_ascii_case(&place))
}

fn loader(
    files: &dyn Files,
    esp: Option<&str>,
    programs: &[Program],
    started: Option<&Program>,
) -> Option<Loader> {
    let has = |role: Role| programs.iter().any(|program| program.role == role);
    // The program that the firmware has started is the one that boots, whatever other programs exist.
    let by_firmware = started.and_then(|program| match program.role {
        Role::Shim | Role::Grub => None,
        Role::SystemdBoot => Some(Loader::SystemdBoot),
        Role::Refind => Some(Loader::Refind),
        Role::Limine => Some(Loader::Limine),
    });
    if by_firmware.is_some() {
        return by_firmware;
    }
    let grub_tool = has_program(files, "grub-install") || has_program(files, "grub2-install");
    let on_esp = has(Role::Shim) || has(Role::Grub);
    let configured = first_of(files, &GRUB_CONFIGS).is_some();
    let configured_on_esp = on_esp && esp.is_some_and(|esp| !grub::full_configs(files, esp).is_empty());
    if configured && (grub_tool || on_esp) || configured_on_esp {
        return Some(Loader::Grub);
    }
    if has(Role::SystemdBoot) {
        return Some(Loader::SystemdBoot);
    }
    if has(Role::Refind) {
        return Some(Loader::Refind);
    }
    if has(Role::Limine) && limine_config(files, programs) {
        return Some(Loader::Limine);
    }
    let extlinux = EXTLINUX_CONFIGS.iter().any(|(_, config)| files.exists(config));
    if extlinux && has_program(files, "extlinux") {
        return Some(Loader::Extlinux);
    }
    if files.exists("/etc/lilo.conf") && has_program(files, "lilo") {
        return Some(Loader::Lilo);
    }
    if !boot_entries::unified(files).is_empty() {
        return Some(Loader::Uki);
    }
    let can_install = grub_tool && !grub_platforms(files).is_empty();
    (can_install && !releases(files).is_empty()).then_some(Loader::Grub)
}

fn limine_config(files: &dyn Files, programs: &[Program]) -> bool {
    let beside = programs.iter().filter(|program| program.role == Role::Limine);
    let mut beside = beside
        .flat_map(|program| ["limine.conf", "limine.cfg"].map(|name| format!("{}/{name}", program.dir)));
    first_of(files, &LIMINE_CONFIGS).is_some() || beside.any(|path| files.exists(&path))
}

/// Returns the program for the firmware to start. It is the one that it has started. Otherwise, of those of
/// this loader, it is the one whose configuration leads to this system, then the one in its distribution's
/// directory, then the only one.
fn program(
    files: &dyn Files,
    esp: &str,
    programs: &[Program],
    loader: Loader,
    known: &Known,
) -> Option<Program> {
    if let Some(program) = started(programs, esp, known) {
        return Some(program.clone());
    }
    let role = esp::role_of(loader, programs.iter().any(|program| program.role == Role::Shim))?;
    let own: Vec<&str> = known.uuids.iter().map(String::as_str).collect();
    esp::pick(
        files,
        programs.iter().filter(|program| program.role == role),
        &own,
    )
    .ok()
    .cloned()
}

/// Returns the loaders that can be installed here: by their tools, or because their files are all of it.
fn tools(files: &dyn Files, programs: &[Program]) -> Vec<Loader> {
    let mut tools: Vec<Loader> = [
        ("grub-install", Loader::Grub),
        ("grub2-install", Loader::Grub),
        ("bootctl", Loader::SystemdBoot),
        ("extlinux", Loader::Extlinux),
        ("lilo", Loader::Lilo),
    ]
    .into_iter()
    .filter(|(name, _)| has_program(files, name))
    .map(|(_, loader)| loader)
    .collect();
    let by_files = [(Role::Refind, Loader::Refind), (Role::Limine, Loader::Limine)];
    let found = by_files
        .into_iter()
        .filter(|(role, _)| programs.iter().any(|program| program.role == *role));
    tools.extend(found.map(|(_, loader)| loader));
    if !boot_entries::unified(files).is_empty() {
        tools.push(Loader::Uki);
    }
    tools.dedup();
    tools
}

/// Returns the platforms that GRUB is there for, by the directories with its modules.
fn grub_platforms(files: &dyn Files) -> Vec<String> {
    let mut platforms: Vec<String> = GRUB_MODULES
        .iter()
        .flat_map(|dir| files.names(dir).into_iter().map(move |name| (dir, name)))
        .filter(|(dir, name)| files.exists(&format!("{dir}/{name}/modinfo.sh")))
        .map(|(_, name)| name)
        .collect();
    platforms.sort();
    platforms.dedup();
    platforms
}

/// Returns the SBAT data of the programs that Secure Boot judges: the started program, and the GRUB beside
/// it.
fn sbat(files: &dyn Files, esp: &str, program: &Program) -> Vec<SbatImage> {
    let beside = files.names(&program.dir).into_iter();
    let beside =
        beside.filter(|name| *name != program.name && efi::role(name, efi::Arch::HERE) == Some(Role::Grub));
    let names = std::iter::once(program.name.clone()).chain(beside);
    let images = names.filter_map(|name| {
        let path = format!("{}/{name}", program.dir);
        let components = pe::sbat(files, &path);
        let program = path.strip_prefix(esp).unwrap_or(&path).to_owned();
        (!components.is_empty()).then_some(SbatImage { program, components })
    });
    images.collect()
}

/// Systems whose boot menu, initramfs and fstab come out of a store that only their own tool may write. The
/// names of the golden disks are in them, out of KA's reach.
fn made_from_a_store(files: &dyn Files) -> Option<String> {
    let (system, tool) = if files.exists("/etc/NIXOS") {
        ("NixOS", "nixos-install")
    } else if files.kind("/gnu/store").is_some() {
        ("Guix System", "guix system init")
    } else if files.kind("/ostree/repo").is_some() || files.kind("/sysroot/ostree/repo").is_some() {
        (
            "an image-based system (ostree: Silverblue, CoreOS, bootc)",
            "its installer",
        )
    } else {
        return None;
    };
    Some(format!(
        "it is {system}, whose boot menu, initramfs and fstab are made from a store that names the golden disks: make a clone \
         with {tool}, or copy the disk raw (-D)"
    ))
}

/// Explains why a system has no boot loader that is known.
fn why_no_loader(files: &dyn Files) -> String {
    if let Some(why) = boot_not_mounted(files) {
        return why;
    }
    if let Some(path) = first_of(files, &GRUB_CONFIGS) {
        return format!(
            "{path} is there, but neither grub-install nor a GRUB on its EFI system partition: install GRUB on it, or name \
             another boot loader with -r"
        );
    }
    if let Some((_, path)) = EXTLINUX_CONFIGS.iter().find(|(_, config)| files.exists(config)) {
        return format!(
            "{path} is there, but the program extlinux is not: U-Boot and other firmware of boards read that file, and KA does \
             not install them (where it is EXTLINUX: install its package on the golden node)"
        );
    }
    if let Some(path) = first_of(files, &BOARD_FILES) {
        return format!("{path} belongs to U-Boot or the firmware of a board, which KA does not install");
    }
    if let Some(path) = first_of(files, &LIMINE_CONFIGS) {
        return format!(
            "{path} is Limine's, whose program is not on its EFI system partition, and KA installs no other Limine"
        );
    }
    if let Some(path) = first_of(files, &OLD_GRUB_CONFIGS) {
        return format!("{path} is that of GRUB 0.9x, which KA does not install: install GRUB 2 on it");
    }
    "KA knows no boot loader on it (GRUB, systemd-boot, EXTLINUX, LILO, rEFInd, Limine, a unified kernel image): install one on \
     it, or name one with -r"
        .to_owned()
}

/// `/boot` has a line in fstab and nothing in it that boots.
fn boot_not_mounted(files: &dyn Files) -> Option<String> {
    let has_kernel = files.names("/boot").iter().any(|name| kernel::is_image(name));
    if has_kernel {
        return None;
    }
    let fstab = text(files, "/etc/fstab").ok().flatten()?;
    let fields = fstab
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut lines = fields.filter(|fields| fields.first().is_some_and(|first| !first.starts_with('#')));
    let line = lines.find(|fields| {
        fields
            .get(1)
            .is_some_and(|path| path.trim_end_matches('/') == "/boot")
    })?;
    Some(format!(
        "/boot has no kernel in it, and /etc/fstab mounts {} there: mount it",
        line.first()?
    ))
}

fn check_kernels(files: &dyn Files) -> Result<(), PostError> {
    if !releases(files).is_empty() || !boot_entries::unified(files).is_empty() {
        return Ok(());
    }
    let in_boot: Vec<String> = files
        .names("/boot")
        .into_iter()
        .filter(|name| kernel::is_image(name))
        .collect();
    if in_boot.iter().any(|image| is_without_modules(files, image)) {
        return Ok(());
    }
    let why = match in_boot.first() {
        Some(image) => format!(
            "/boot/{image} has no modules (no /lib/modules/RELEASE/modules.dep that belongs to it): install the kernel's \
             package again, or run depmod"
        ),
        None => {
            boot_not_mounted(files).unwrap_or_else(|| "it has no kernel in /boot or /lib/modules".to_owned())
        }
    };
    Err(PostError::Wrong(format!(
        "a clone of this golden node could not boot: {why}. -r none clones it all the same, without a boot loader"
    )))
}

/// A kernel that was built without support for modules needs none.
fn is_without_modules(files: &dyn Files, image: &str) -> bool {
    let release = image.split_once('-').map_or("", |(_, release)| release);
    let config = text(files, &format!("/boot/config-{release}")).ok().flatten();
    config.is_some_and(|config| config.lines().any(|line| line == "# CONFIG_MODULES is not set"))
}

/// Kernels that a menu may offer and that would find no drivers.
fn kernels_without_modules(files: &dyn Files) -> Vec<String> {
    let releases = releases(files);
    let whole: Vec<String> = releases
        .iter()
        .flat_map(|release| kernel::images(release, &|dir| files.names(dir)))
        .collect();
    // Arch names images for the package, which the modules' directory tells.
    let packages: Vec<String> = releases
        .iter()
        .filter_map(|release| {
            text(files, &format!("/lib/modules/{release}/pkgbase"))
                .ok()
                .flatten()
        })
        .map(|package| package.trim().to_owned())
        .collect();
    let is_packaged = |name: &str| {
        packages
            .iter()
            .any(|package| kernel::is_image_of_package(name, package))
    };
    let names = files.names("/boot").into_iter();
    let names = names.filter(|name| !is_packaged(name));
    let images =
        names.filter(|name| name.contains('-') && kernel::is_image(name) && !name.contains("rescue"));
    images
        .map(|name| format!("/boot/{name}"))
        .filter(|path| {
            !whole.contains(path)
                && !path.ends_with(".old")
                && files.kind(path) == Some(crate::files::Kind::File)
        })
        .filter(|path| !is_without_modules(files, path.rsplit('/').next().unwrap_or_default()))
        .map(|path| format!("{path} has no modules in /lib/modules: a clone that boots it finds no drivers"))
        .collect()
}

#[cfg(test)]
#[path = "golden_boot_tests.rs"]
mod tests;
