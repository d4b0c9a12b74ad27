//! Machines before they are nodes and after. They ask what to boot, fetch it, and come back from their own
//! disk.

use std::fmt;

use serde::Serialize;

use crate::text::{clock, size};

/// The boot server of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootServing {
    /// Network interface that it serves.
    pub iface: String,
    /// Server address that machines are told.
    pub addr: String,
    /// DHCP mode: `full:FIRST-LAST`, `proxy` or `off`.
    pub dhcp: String,
    /// Release of the kernel that nodes boot.
    pub kernel: String,
    /// Size of the boot image, in bytes.
    pub stage1_bytes: u64,
    /// Number of machines that boot into a clone by themselves.
    pub armed: u32,
    /// The armed machines that the node list names.
    pub machines: Vec<MachineRef>,
}

impl fmt::Display for BootServing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "boot server on {} ({}), DHCP {}: kernel {}, boot image {}, {} armed",
            self.iface,
            self.addr,
            self.dhcp,
            self.kernel,
            size(self.stage1_bytes),
            self.armed
        )
    }
}

/// A machine of the boot network. It may never become a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachineRef {
    /// MAC address of the card that it boots from.
    pub mac: String,
    /// Its name in the node list.
    pub name: Option<String>,
    /// Its address, if we gave it or the node list has one.
    pub addr: Option<String>,
}

impl fmt::Display for MachineRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.mac),
            None => f.write_str(&self.mac),
        }
    }
}

/// An action of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "news", rename_all = "kebab-case")]
pub enum MachineNews {
    /// The machine asks what to boot.
    Asked {
        /// Kind of firmware: `BIOS`, `UEFI x64`.
        firmware: String,
        /// Stage of the boot: `PXE`, `HTTP boot`, `iPXE`.
        stage: String,
    },
    /// The machine has an address of ours.
    Leased,
    /// The machine got its menu.
    Menu {
        /// The entry that boots without a key press: `local` or `kamethod`.
        entry: String,
        /// True if the entry erases the machine's disks.
        erases: bool,
    },
    /// The machine fetched the kernel or the boot image.
    Fetched {
        /// Name of the file.
        file: String,
        /// Size of the file, in bytes.
        bytes: u64,
        /// True if it was the last file, so that the node starts now.
        starts: bool,
    },
    /// The machine was cloned. From now on it gets `local`.
    Finished,
}

impl fmt::Display for MachineNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked { firmware, stage } => write!(f, "asks what to boot ({firmware}, {stage})"),
            Self::Leased => f.write_str("has an address"),
            Self::Menu { entry, erases: true } => write!(f, "boots {entry}: it becomes a clone"),
            Self::Menu { entry, erases: false } => write!(f, "boots {entry}"),
            Self::Fetched { file, bytes, starts } => {
                write!(f, "fetched {file} ({})", size(*bytes))?;
                f.write_str(if *starts { ", starting" } else { "" })
            }
            Self::Finished => f.write_str("is finished: its next network boot gets local"),
        }
    }
}

/// The sign of a clone's first boot from its own disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeenBy {
    /// The clone's beacon.
    Beacon,
    /// A request for an address by its operating system.
    Dhcp,
}

impl fmt::Display for SeenBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Beacon => "beacon",
            Self::Dhcp => "DHCP",
        })
    }
}

/// The result of the wait for a clone's first boot from its own disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "first_boot", rename_all = "kebab-case")]
pub enum FirstBoot {
    /// The clone was seen.
    Booted {
        /// The sign by which it was noticed.
        seen_by: SeenBy,
        /// Time from the release to that sign, in milliseconds.
        after_ms: u64,
    },
    /// The clone was not seen while the server waited.
    NeverCameBack,
}

impl fmt::Display for FirstBoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Booted { seen_by, after_ms } => {
                let after = clock(std::time::Duration::from_millis(*after_ms));
                write!(f, "booted after {after} ({seen_by})")
            }
            Self::NeverCameBack => f.write_str("never came back"),
        }
    }
}
