//! References to golden disks outside fstab: crypttab, kernel command lines, boot entries, units, the resume
//! device. Each becomes a reference to the clone's own disk. A reference to a disk that the clone does not
//! have is taken out, or reported. The rest of each file stays byte for byte, also if it is not UTF-8.
//!
//! The files are a list of places, and every text below `/boot` and on the EFI system partition, because
//! loaders of all kinds keep their configuration there. Lines are searched, not parsed; comments are left
//! alone. The model is [`crate::names`].

mod places;
mod records;

use crate::error::PostError;
use crate::facts::Facts;
use crate::files::{Files, Kind};
use crate::fstab;
use crate::names::text::{self, Rewritten, is_comment};
use crate::names::words::{self, WordNotes};
use crate::names::{self, Manner, Names, crypttab, layers, tabs, unit_names, units};
use crate::plan::Plan;
use crate::uboot;

pub(crate) use places::paths;
use places::{all_paths, is_script_name};
use records::Records;

/// The form of a file.
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
    /// A text of U-Boot's with check sums.
    UbootScript,
    /// Another fstab(5): dracut's, and the drop-ins of util-linux.
    Fstab,
    /// The list of mounts, if it is no link to the kernel's own.
    MountTable,
    Records(Records),
    /// Ids of storage, one a line.
    StorageIds,
    /// Commands and settings of any kind: no command line, and paths stay paths.
    Names,
    /// dracut.conf(5): settings for the initramfs, and a command line.
    Dracut,
    Words,
}

impl Form {
    fn of(path: &str) -> Self {
        match path {
            _ if crypttab::FILES.contains(&path) => Self::Crypttab,
            "/etc/integritytab" | "/etc/veritytab" => Self::Tab,
            "/etc/conf.d/dmcrypt" => Self::Dmcrypt,
            _ if path.starts_with("/etc/lvm/devices/") => Self::LvmDevices,
            "/etc/uswsusp.conf" | "/etc/suspend.conf" => Self::Suspend,
            "/etc/lilo.conf" | "/etc/elilo.conf" | "/etc/yaboot.conf" => Self::Lilo,
            _ if path.starts_with("/etc/mdadm") => Self::Mdadm,
            _ if is_grubenv(path) => Self::Grubenv,
            _ if is_script_name(path) => Self::UbootScript,
            "/etc/fstab.sys" => Self::Fstab,
            "/etc/mtab" => Self::MountTable,
            _ if path.starts_with("/etc/fstab.d/") => Self::Fstab,
            _ if path.starts_with("/etc/multipath/") => Self::StorageIds,
            _ if path.starts_with("/etc/dracut.conf") => Self::Dracut,
            _ => match places::records(path) {
                Some(form) => Self::Records(form),
                None if places::is_command_line(path) => Self::Words,
                None => Self::Names,
            },
        }
    }
}

/// Plans new texts for all files that refer to golden disks.
///
/// # Errors
/// A file cannot be read; an environment block of GRUB's cannot hold what it must.
pub fn plan(files: &dyn Files, facts: &Facts) -> Result<Plan, PostError> {
    let mut plan = Plan::default();
    let names = names::read(files, facts)?;
    for path in all_paths(files, facts) {
        let Some(bytes) = files.read(&path).map_err(PostError::reading(&path))? else {
            continue;
        };
        let new = rewrite(&path, &bytes, files, &names)?;
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
    for path in places::CACHES
        .into_iter()
        .filter(|path| files.kind(path) == Some(Kind::File))
    {
        plan.remove(path, "it remembers the golden node's disks, and is made anew");
    }
    let fstab = files
        .read(FSTAB)
        .map_err(PostError::reading(FSTAB))?
        .unwrap_or_default();
    units::plan(&mut plan, files, &names, &fstab::left_out(&fstab))?;
    Ok(plan)
}

const FSTAB: &str = "/etc/fstab";

fn rewrite(path: &str, bytes: &[u8], files: &dyn Files, names: &Names<'_>) -> Result<Rewritten, PostError> {
    Ok(match Form::of(path) {
        Form::Crypttab => crypttab::plan(bytes, names).file,
        Form::Tab => tabs::tab(bytes, names),
        Form::Dmcrypt => crypttab::dmcrypt(bytes, names),
        Form::Mdadm => tabs::mdadm(bytes, names),
        Form::LvmDevices => tabs::lvm_devices(bytes, names),
        Form::Suspend => suspend(bytes, names),
        Form::Lilo => lines(path, bytes, names, Manner::AtInstall),
        Form::Grubenv => grubenv(path, bytes, names)?,
        Form::Words => lines(path, bytes, names, Manner::Usual),
        Form::Fstab => another_fstab(bytes, files, names)?,
        Form::MountTable => emptied(bytes),
        Form::Records(form) => records::rewrite(bytes, names, form),
        Form::StorageIds => records::storage_ids(bytes, names),
        Form::Names => records::names(bytes, names),
        Form::Dracut => dracut(path, bytes, names),
        Form::UbootScript => {
            let by = |text: &[u8]| lines(path, text, names, Manner::Usual);
            uboot::rewrite(bytes, by).unwrap_or_else(|| Rewritten {
                bytes: bytes.to_vec(),
                ..Rewritten::default()
            })
        }
    })
}

fn another_fstab(bytes: &[u8], files: &dyn Files, names: &Names<'_>) -> Result<Rewritten, PostError> {
    let plan = fstab::plan(bytes, files, names.facts())?;
    let changes = plan.changes.iter();
    Ok(Rewritten {
        bytes: plan.text,
        changes: changes
            .map(|change| format!("line {}: {} becomes {}", change.line, change.before, change.after))
            .collect(),
        warnings: plan.warnings,
    })
}

/// Nothing is mounted before the clone boots: mount(8) would believe the golden node's list.
fn emptied(bytes: &[u8]) -> Rewritten {
    let changes = if bytes.is_empty() {
        Vec::new()
    } else {
        vec!["emptied: nothing is mounted yet".to_owned()]
    };
    Rewritten {
        changes,
        ..Rewritten::default()
    }
}

/// Rewrites a file of dracut's. Its initramfs waits for each device in the list, so devices that are gone
/// leave it.
fn dracut(path: &str, bytes: &[u8], names: &Names<'_>) -> Rewritten {
    let mut new = Rewritten::default();
    for (number, line) in (1..).zip(text::lines(bytes)) {
        let key = line.text().split_once('=').map_or("", |(key, _)| key.trim());
        let key = key.trim_end_matches('+');
        let mut said = WordNotes::default();
        if !is_comment(line.text()) && matches!(key, "add_device" | "add_devices") {
            let made = words::without_gone(line.text(), names, &mut said);
            new.push(&line, &made);
        } else if !is_comment(line.text()) && key == "fstab_lines" {
            let record = records::rewrite(line.text().as_bytes(), names, Records::AtStart);
            said.warnings = record.warnings;
            new.push(&line, &String::from_utf8_lossy(&record.bytes));
        } else {
            let of_line = lines(path, &line.bytes_of(line.text()), names, Manner::Usual);
            new.bytes.extend(of_line.bytes);
            new.changes.extend(of_line.changes);
            said.warnings = of_line.warnings;
        }
        // Each was read as the only line of a file.
        let told = said.warnings.into_iter();
        let told = told.map(|warning| warning.trim_start_matches("line 1: ").to_owned());
        new.warnings
            .extend(told.map(|warning| format!("line {number}: {warning}")));
    }
    new
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
        let mut said = WordNotes::default();
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

/// Switches of grub-mkconfig and grub-install that would bring golden habits back: kernel names on the
/// command line, a search for encrypted disks.
fn grub_switch(line: &str, names: &Names<'_>) -> Option<String> {
    let (key, value) = line.trim_start_matches("export ").split_once('=')?;
    let is_on = matches!(value.trim().trim_matches(['"', '\'']), "true" | "y" | "1");
    let off = match key.trim() {
        "GRUB_DISABLE_LINUX_UUID" => is_on && !names.keeps_kernel_names(),
        // grub-mkconfig(8) looks for them itself: another machine's would prevail.
        "GRUB_DEVICE"
        | "GRUB_DEVICE_UUID"
        | "GRUB_DEVICE_PARTUUID"
        | "GRUB_DEVICE_BOOT"
        | "GRUB_DEVICE_BOOT_UUID" => true,
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
            (Some("resume device"), Some(value)) => match unit_names::word(value, names, &[]) {
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

fn is_grubenv(path: &str) -> bool {
    path.ends_with("/grubenv")
}

/// Returns a text of the file's length. GRUB's environment block has a fixed length, filled up with `#` (GRUB
/// manual, section "Environment block"); other files have none. A text that would be longer stays so, and the
/// caller must refuse it.
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
