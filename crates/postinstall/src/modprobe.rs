//! The kernel modules that this node's hardware needs. They come from its modaliases and the restored
//! kernel's `modules.alias`, never from a list kept by hand.
//!
//! udev loads by modalias anyway. The written files serve other readers: tools that make an initramfs (see
//! [`crate::initramfs`]), a kernel that asks for the driver of an interface by name (`netdev-eth0`,
//! modprobe.d(5)), and people.

use std::path::Path;

use ka_kmod::{Index, ModuleName, hardware_modaliases};

use crate::error::PostError;
use crate::files::{Files, text};
use crate::plan::Plan;

/// The path of the file on today's systems.
pub const MODERN: &str = "/etc/modprobe.d/ka-hardware.conf";
/// Its path before module-init-tools 3.
const OLD: &str = "/etc/modprobe.conf";

/// Directories of the kernel's own tree with drivers that a disk may hang on.
const STORAGE: [&str; 9] = [
    "kernel/drivers/ata",
    "kernel/drivers/scsi",
    "kernel/drivers/nvme",
    "kernel/drivers/block",
    "kernel/drivers/mmc",
    "kernel/drivers/message",
    "kernel/drivers/ide",
    "kernel/drivers/ufs",
    "kernel/drivers/usb/storage",
];
/// The same with what such drivers hang on themselves.
const BUSES: [&str; 5] = [
    "kernel/drivers/virtio",
    "kernel/drivers/hv",
    "kernel/drivers/xen",
    "kernel/drivers/pci",
    "kernel/drivers/firewire",
];
/// Nothing boots from it any more, and looking for it takes seconds.
const NEVER: [&str; 2] = ["floppy", "pktcdvd"];

/// This machine as the kernel describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hardware {
    /// The modaliases of all devices.
    pub modaliases: Vec<String>,
    /// Network interfaces with the modalias of their device.
    pub interfaces: Vec<(String, String)>,
}

impl Hardware {
    /// Reads it from `/sys`, or a tree made for a test.
    #[must_use]
    pub fn read(sys: &Path) -> Self {
        let mut interfaces: Vec<(String, String)> = std::fs::read_dir(sys.join("class/net"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let modalias = std::fs::read_to_string(entry.path().join("device/modalias")).ok()?;
                Some((entry.file_name().into_string().ok()?, modalias.trim().to_owned()))
            })
            .collect();
        interfaces.sort();
        Self {
            modaliases: hardware_modaliases(sys),
            interfaces,
        }
    }
}

/// The modules of the restored kernel that this hardware needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NeededModules {
    /// The drivers of disk controllers.
    pub storage: Vec<String>,
    /// Interfaces with their drivers.
    pub network: Vec<(String, String)>,
    /// The modules that an initramfs must have, in loading order.
    pub initramfs: Vec<String>,
}

impl NeededModules {
    /// Asks the restored kernel's index. `filesystems` are the types without which the root cannot be
    /// mounted. Pure.
    #[must_use]
    pub fn of(hardware: &Hardware, index: &Index, filesystems: &[&str]) -> Self {
        let mut found: Vec<(bool, ModuleName)> = Vec::new();
        for modalias in &hardware.modaliases {
            for name in index.for_modalias(modalias) {
                // `scsi:t-0x00` asks for sd_mod: needed, but no controller.
                let controller = !modalias.starts_with("scsi:");
                if !found.iter().any(|(_, known)| *known == name)
                    && !NEVER.contains(&name.to_string().as_str())
                {
                    found.push((controller, name));
                }
            }
        }
        let is_below = |name: &ModuleName, dirs: &[&str]| {
            let module = index.module(name);
            module.is_some_and(|module| dirs.iter().any(|dir| module.path.starts_with(dir)))
        };
        let controllers = found
            .iter()
            .filter(|(controller, name)| *controller && is_below(name, &STORAGE));
        let roots: Vec<ModuleName> = found
            .iter()
            .map(|(_, name)| name.clone())
            .filter(|name| is_below(name, &STORAGE) || is_below(name, &BUSES))
            .chain(filesystems.iter().map(|name| ModuleName::new(name)))
            .collect();
        let network = hardware.interfaces.iter().filter_map(|(interface, modalias)| {
            let name = index.for_modalias(modalias).into_iter().next()?;
            Some((interface.clone(), name.to_string()))
        });
        Self {
            storage: controllers.map(|(_, name)| name.to_string()).collect(),
            network: network.collect(),
            initramfs: index
                .with_dependencies(&roots)
                .iter()
                .map(|module| module.name.to_string())
                .collect(),
        }
    }

    /// Returns the lines of the old file, which are also shown: `alias scsi_hostadapter ahci`, `alias eth0
    /// e1000`.
    #[must_use]
    pub fn aliases(&self) -> Vec<String> {
        let storage = self.storage.iter().enumerate().map(|(index, module)| {
            let number = if index == 0 {
                String::new()
            } else {
                index.to_string()
            };
            format!("alias scsi_hostadapter{number} {module}")
        });
        let network = self
            .network
            .iter()
            .map(|(interface, module)| format!("alias {interface} {module}"));
        storage.chain(network).collect()
    }
}

/// Plans the file that says so.
///
/// # Errors
/// The old file is there and cannot be read.
pub fn plan(files: &dyn Files, needed: &NeededModules) -> Result<Plan, PostError> {
    let mut plan = Plan::default();
    let aliases = needed.aliases();
    if let Some(old) = text(files, OLD).map_err(PostError::reading(OLD))? {
        let is_ours = |line: &str| {
            let mut words = line.split_whitespace();
            let name = (words.next(), words.next());
            matches!(name, (Some("alias"), Some(name)) if is_interface(name) || name.starts_with("scsi_hostadapter"))
        };
        let kept = old.lines().filter(|line| !is_ours(line)).map(ToOwned::to_owned);
        let lines: Vec<String> = kept.chain(aliases.clone()).collect();
        plan.write(OLD, format!("{}\n", lines.join("\n")), aliases);
        return Ok(plan);
    }
    let mut lines =
        vec!["# Written by KA for this machine's hardware; the next clone run writes it anew.".to_owned()];
    for (interface, module) in &needed.network {
        lines.push(format!("alias netdev-{interface} {module}"));
    }
    for line in aliases.iter().filter(|line| line.starts_with("alias scsi_")) {
        lines.push(line.clone());
    }
    plan.write(MODERN, format!("{}\n", lines.join("\n")), aliases);
    Ok(plan)
}

/// `eth0`, the only kind of name there was then.
fn is_interface(name: &str) -> bool {
    name.strip_prefix("eth")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
#[path = "modprobe_tests.rs"]
pub(crate) mod tests;
