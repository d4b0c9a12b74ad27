//! References to golden disks outside fstab: crypttab, kernel command lines, boot entries, units, the resume device.
//! Each becomes one to the clone's own disk; one to what the clone does not have is taken out, or told. The rest of each
//! file stays byte for byte, also where it is no UTF-8.
//!
//! The files are a list of places, and every text below `/boot` and on the EFI system partition: loaders of all kinds
//! keep their configuration there. Lines are searched, not parsed; comments are left alone. The model is
//! [`crate::names`].

use crate::facts::Facts;
use crate::files::{Files, Kind};
use crate::fstab;
use crate::names::layers;
use crate::names::text::{self, Rewritten};
use crate::names::words::{self, Said};
use crate::names::{Manner, Names, crypttab, ids, units};
use crate::plan::{Plan, PostError};

pub(crate) use crate::names::text::is_comment;

/// Files that may hold references, each by itself.
const FILES: [&str; 49] = [
    "/etc/crypttab",
    "/etc/crypttab.initramfs",
    "/etc/integritytab",
    "/etc/veritytab",
    "/etc/conf.d/dmcrypt",
    "/etc/conf.d/swap",
    "/etc/mdadm.conf",
    "/etc/mdadm/mdadm.conf",
    "/etc/lvm/lvm.conf",
    "/etc/lvm/lvmlocal.conf",
    "/etc/lvm/devices/system.devices",
    "/etc/multipath.conf",
    "/etc/default/grub",
    "/etc/default/grub-btrfs/config",
    "/etc/kernel/cmdline",
    "/etc/kernel/uki.conf",
    "/etc/kernel/install.conf",
    "/etc/kernel/tries",
    "/etc/cmdline",
    "/usr/lib/kernel/cmdline",
    "/etc/tuned/bootcmdline",
    "/etc/dracut.conf",
    "/etc/mkinitcpio.conf",
    "/etc/mkinitfs/mkinitfs.conf",
    "/etc/booster.yaml",
    "/etc/genkernel.conf",
    "/etc/initramfs-tools/initramfs.conf",
    "/etc/uswsusp.conf",
    "/etc/suspend.conf",
    "/etc/lilo.conf",
    "/etc/elilo.conf",
    "/etc/yaboot.conf",
    "/etc/zipl.conf",
    "/etc/update-extlinux.conf",
    "/etc/sysconfig/bootloader",
    "/etc/sysconfig/kdump",
    "/etc/sysconfig/kernel",
    "/etc/kdump.conf",
    "/etc/default/kdump-tools",
    "/etc/default/kexec",
    "/etc/conf.d/kexec",
    "/etc/default/u-boot",
    "/etc/default/flash-kernel",
    "/etc/default/extlinux",
    "/etc/default/limine",
    "/etc/u-boot.conf",
    "/etc/smartd.conf",
    "/etc/hdparm.conf",
    "/etc/timeshift/timeshift.json",
];

/// Directories of such files, with the ending that counts.
const DIRECTORIES: [(&str, &str); 20] = [
    ("/etc/default/grub.d", ""),
    ("/etc/default/kexec.d", ""),
    ("/etc/default/kdump-tools.d", ""),
    ("/etc/grub.d", ""),
    ("/etc/mdadm.conf.d", ".conf"),
    ("/etc/mdadm/mdadm.conf.d", ".conf"),
    ("/etc/lvm/profile", ".profile"),
    ("/etc/kernel/cmdline.d", ""),
    ("/etc/kernel/uki.conf.d", ".conf"),
    ("/etc/cmdline.d", ".conf"),
    ("/etc/dracut.conf.d", ".conf"),
    ("/etc/mkinitcpio.conf.d", ".conf"),
    ("/etc/mkinitcpio.d", ".preset"),
    ("/etc/initramfs-tools/conf.d", ""),
    ("/etc/kdump", ""),
    ("/etc/update-extlinux.d", ""),
    ("/etc/u-boot-menu/conf.d", ".conf"),
    ("/etc/u-boot-menu.d", ".conf"),
    ("/etc/udev/rules.d", ".rules"),
    ("/etc/tmpfiles.d", ".conf"),
];

/// Places of loaders' configurations: every text below them counts.
const BOOT_PLACES: [&str; 6] = ["/boot", "/efi", "/esp", "/extlinux", "/syslinux", "/limine"];
/// The same in the root directory itself.
const AT_ROOT: [&str; 6] = [
    "/extlinux.conf",
    "/syslinux.cfg",
    "/limine.conf",
    "/limine.cfg",
    "/refind_linux.conf",
    "/cmdline.txt",
];
/// A configuration is a few KiB; a grub.cfg of many kernels some hundred. Bytes.
const MAX_CONFIG_BYTES: usize = 1 << 20;
const MAX_DEPTH: usize = 8;
/// More than any loader has; a boot partition with a tree of something else on it is not searched for ever.
const MAX_BOOT_FILES: usize = 4096;
/// Beginnings and endings of files below /boot that are no configuration.
const NO_CONFIG_BEGINNINGS: [&str; 10] = [
    "vmlinu",
    "initrd",
    "initramfs",
    "System.map",
    "config-",
    "kernel-",
    "Image",
    "bzImage",
    "symvers",
    "zImage",
];
const NO_CONFIG_ENDINGS: [&str; 20] = [
    ".mod", ".efi", ".img", ".c32", ".sys", ".png", ".pf2", ".mo", ".dtb", ".dtbo", ".elf", ".bin", ".scr",
    ".gz", ".xz", ".zst", ".bmp", ".icns", ".EFI", ".dat",
];

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Crypttab,
    /// integritytab(5), veritytab(5).
    Tab,
    Dmcrypt,
    Mdadm,
    LvmDevices,
    /// `resume device = /dev/sda2`: paths only.
    Suspend,
    /// GRUB's environment block has a length of its own.
    Grubenv,
    /// Read by a tool that installs on this machine.
    Lilo,
    Words,
}

impl Form {
    fn of(path: &str) -> Self {
        match path {
            _ if crypttab::FILES.contains(&path) => Self::Crypttab,
            "/etc/integritytab" | "/etc/veritytab" => Self::Tab,
            "/etc/conf.d/dmcrypt" => Self::Dmcrypt,
            "/etc/lvm/devices/system.devices" => Self::LvmDevices,
            "/etc/uswsusp.conf" | "/etc/suspend.conf" => Self::Suspend,
            "/etc/lilo.conf" | "/etc/elilo.conf" | "/etc/yaboot.conf" => Self::Lilo,
            _ if path.starts_with("/etc/mdadm") => Self::Mdadm,
            _ if is_grubenv(path) => Self::Grubenv,
            _ => Self::Words,
        }
    }
}

/// Plans new texts for all files that refer to golden disks.
///
/// # Errors
/// A file cannot be read; an environment block of GRUB's cannot hold what it must.
pub fn plan(files: &dyn Files, facts: &Facts) -> Result<Plan, PostError> {
    let mut plan = Plan::default();
    let names = Names::new(files, facts)?;
    for path in all_paths(files, facts) {
        let Some(bytes) = files.read(&path).map_err(PostError::reading(&path))? else {
            continue;
        };
        let new = rewrite(&path, &bytes, &names)?;
        let mut warnings = new.warnings;
        warnings.dedup();
        plan.warnings
            .extend(warnings.into_iter().map(|warning| format!("{path}: {warning}")));
        if new.bytes != bytes {
            let is_made = path.ends_with("/grub.cfg");
            let changes = if is_made {
                vec!["names the clone's disks".to_owned()]
            } else {
                new.changes
            };
            plan.write(path, new.bytes, changes);
        }
    }
    let fstab = files
        .read(FSTAB)
        .map_err(PostError::reading(FSTAB))?
        .unwrap_or_default();
    units::plan(&mut plan, files, &names, &fstab::left_out(&fstab))?;
    Ok(plan)
}

const FSTAB: &str = "/etc/fstab";

/// The files that hold references, those that are there.
pub(crate) fn paths(files: &dyn Files) -> Vec<String> {
    let mut paths: Vec<String> = FILES
        .iter()
        .chain(&AT_ROOT)
        .map(|path| (*path).to_owned())
        .collect();
    for (dir, ending) in DIRECTORIES {
        let names = files.names(dir).into_iter().filter(|name| name.ends_with(ending));
        paths.extend(names.map(|name| format!("{dir}/{name}")));
    }
    paths.retain(|path| {
        files.kind(path) == Some(Kind::File) || files.kind(path) == Some(Kind::Link) && files.exists(path)
    });
    for place in BOOT_PLACES {
        boot_texts(files, place, MAX_DEPTH, &mut paths);
    }
    paths
}

/// The same, with the texts of an EFI system partition that is mounted elsewhere.
fn all_paths(files: &dyn Files, facts: &Facts) -> Vec<String> {
    let mut paths = paths(files);
    let is_elsewhere = |path: &str| {
        path != "/"
            && !BOOT_PLACES
                .iter()
                .any(|place| std::path::Path::new(path).starts_with(place))
    };
    let boots = facts
        .mounts
        .iter()
        .filter(|mount| mount.fstype == "vfat" && is_elsewhere(&mount.path));
    for mount in boots {
        boot_texts(files, &mount.path, MAX_DEPTH, &mut paths);
    }
    paths
}

/// Adds the texts below a directory. Links are not followed: what they lead to is found by its own name.
fn boot_texts(files: &dyn Files, dir: &str, depth: usize, paths: &mut Vec<String>) {
    for name in files.names(dir) {
        let path = format!("{dir}/{name}");
        match files.kind(&path) {
            Some(Kind::Dir) if depth > 0 => boot_texts(files, &path, depth - 1, paths),
            Some(Kind::File) if paths.len() < MAX_BOOT_FILES && is_config(files, &path, &name) => {
                paths.push(path)
            }
            _ => {}
        }
    }
}

fn is_config(files: &dyn Files, path: &str, name: &str) -> bool {
    if NO_CONFIG_BEGINNINGS.iter().any(|start| name.starts_with(start))
        || NO_CONFIG_ENDINGS.iter().any(|end| name.ends_with(end))
    {
        return false;
    }
    let head = files
        .read_part(path, 0, MAX_CONFIG_BYTES + 1)
        .ok()
        .flatten()
        .unwrap_or_default();
    head.len() <= MAX_CONFIG_BYTES && !head.contains(&0)
}

fn rewrite(path: &str, bytes: &[u8], names: &Names<'_>) -> Result<Rewritten, PostError> {
    Ok(match Form::of(path) {
        Form::Crypttab => crypttab::plan(bytes, names).file,
        Form::Tab => layers::tab(bytes, names),
        Form::Dmcrypt => crypttab::dmcrypt(bytes, names),
        Form::Mdadm => layers::mdadm(bytes, names),
        Form::LvmDevices => layers::lvm_devices(bytes, names),
        Form::Suspend => suspend(bytes, names),
        Form::Lilo => lines(path, bytes, names, Manner::AtInstall),
        Form::Grubenv => grubenv(path, bytes, names)?,
        Form::Words => lines(path, bytes, names, Manner::Usual),
    })
}

fn lines(path: &str, bytes: &[u8], names: &Names<'_>, manner: Manner) -> Rewritten {
    let mut new = Rewritten::default();
    let is_defaults = path.starts_with("/etc/default/grub");
    for (number, line) in (1..).zip(text::lines(bytes)) {
        if is_comment(line.text()) {
            new.push(&line, line.text());
            continue;
        }
        if is_defaults && let Some(made) = grub_switch(line.text(), names) {
            new.push(&line, &made);
            continue;
        }
        let mut said = Said::default();
        let made = words::rewrite(line.text(), names, manner, &mut said);
        new.warnings.extend(
            said.warnings
                .into_iter()
                .map(|warning| format!("line {number}: {warning}")),
        );
        new.push(&line, &made);
    }
    new
}

/// Switches of grub-mkconfig and grub-install that would bring golden habits back: kernel names on the command line, a
/// search for encrypted disks.
fn grub_switch(line: &str, names: &Names<'_>) -> Option<String> {
    let (key, value) = line.trim_start_matches("export ").split_once('=')?;
    let is_on = matches!(value.trim().trim_matches(['"', '\'']), "true" | "y" | "1");
    let off = match key.trim() {
        "GRUB_DISABLE_LINUX_UUID" => is_on && !names.keeps_kernel_names(),
        "GRUB_ENABLE_CRYPTODISK" => is_on && !layers::Layers::of(names.facts()).any(),
        _ => false,
    };
    off.then(|| format!("{}{line}", text::LEFT_OUT))
}

/// uswsusp.conf(5): `resume device = PATH`, `resume offset = N`.
fn suspend(bytes: &[u8], names: &Names<'_>) -> Rewritten {
    let mut new = Rewritten::default();
    for (number, line) in (1..).zip(text::lines(bytes)) {
        let setting = line.text().split_once('=').filter(|_| !is_comment(line.text()));
        let key = setting.map(|(key, _)| key.split_whitespace().collect::<Vec<_>>().join(" "));
        match (key.as_deref(), setting.map(|(_, value)| value.trim())) {
            (Some("resume device"), Some(value)) => match units::word(value, names, &[]) {
                Some(device) => new.push(&line, &line.text().replacen(value, &device, 1)),
                None => new.comment_out(
                    &line,
                    format!("line {number}: {value} names no disk of the clone: commented out"),
                ),
            },
            (Some("resume offset"), Some(value)) if value != "0" => {
                match names.facts().swap_files.as_slice() {
                    [only] if only.offset_pages.is_some() => {
                        let offset = only.offset_pages.unwrap_or_default().to_string();
                        new.push(&line, &line.text().replacen(value, &offset, 1));
                    }
                    _ => new.comment_out(
                        &line,
                        format!("line {number}: {value} is a place on the golden node's disk: commented out"),
                    ),
                }
            }
            _ => new.push(&line, line.text()),
        }
    }
    new
}

/// An environment block that would grow too long keeps the kernel's names of devices, which are shorter.
fn grubenv(path: &str, bytes: &[u8], names: &Names<'_>) -> Result<Rewritten, PostError> {
    let fit = |new: Rewritten| {
        let fitted = fitting_bytes(path, &new.bytes, bytes.len());
        fitted.map(|bytes| Rewritten { bytes, ..new })
    };
    if let Some(new) = fit(lines(path, bytes, names, Manner::Usual)) {
        return Ok(new);
    }
    let mut short = lines(path, bytes, names, Manner::AtInstall);
    short.warnings.push(format!(
        "the environment block of {} bytes has no room for UUIDs: it keeps the kernel's names of the disks",
        bytes.len()
    ));
    fit(short).ok_or_else(|| {
        PostError::Wrong(format!(
            "{path} has {} bytes and no room for the names of the clone's disks: shorten what is in it on the golden node \
             (grub-editenv - unset NAME)",
            bytes.len()
        ))
    })
}

/// Insists that a boot loader's configuration names no file system or partition of the golden node: what its own tool or
/// [`plan`] could not reach would leave a clone that does not boot, or one that mounts another machine's disk.
///
/// # Errors
/// The first that is named outside comments.
pub(crate) fn expect_own(path: &str, text: &str, facts: &Facts) -> Result<(), PostError> {
    if facts.keep_uuids {
        return Ok(());
    }
    let lines = text.lines().filter(|line| !is_comment(line));
    let lines: Vec<&str> = lines.collect();
    for (golden, clone) in ids::pairs(facts) {
        if golden != clone
            && lines
                .iter()
                .any(|line| ids::replace_whole(line, golden, clone) != *line)
        {
            return Err(PostError::Wrong(format!(
                "{path} still names the golden file system {golden}: look for what writes it (GRUB: /etc/grub.d)"
            )));
        }
    }
    Ok(())
}

fn is_grubenv(path: &str) -> bool {
    path.ends_with("/grubenv")
}

/// GRUB's environment block has a fixed length, filled up with `#` (GRUB manual, section "Environment block"); other files
/// have none. One that would be longer stays so: the caller's to refuse.
pub(crate) fn fitting(path: &str, text: String, len: usize) -> String {
    let fitted = fitting_bytes(path, text.as_bytes(), len);
    fitted
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .unwrap_or(text)
}

fn fitting_bytes(path: &str, bytes: &[u8], len: usize) -> Option<Vec<u8>> {
    if !is_grubenv(path) {
        return Some(bytes.to_vec());
    }
    let filled = bytes.iter().rev().take_while(|byte| **byte == b'#').count();
    let mut new = bytes[..bytes.len() - filled].to_vec();
    if new.len() > len {
        return None;
    }
    new.resize(len, b'#');
    Some(new)
}

#[cfg(test)]
#[path = "references_tests.rs"]
mod tests;
