//! What happens to machines before they are nodes and after: asking what to boot, fetching it, and coming back from
//! their own disk.

use std::fmt;

use serde::Serialize;

use crate::text::{clock, size};

/// The boot server of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootServing {
    /// The interface it serves.
    pub iface: String,
    /// The address that machines are told.
    pub addr: String,
    /// Who gives addresses: `full:FIRST-LAST`, `proxy`, `off`.
    pub dhcp: String,
    /// Release of the kernel that nodes boot.
    pub kernel: String,
    /// The boot image, bytes.
    pub stage1_bytes: u64,
    /// Machines that boot into a clone by themselves.
    pub armed: u32,
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

/// A machine of the boot network; it may never become a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachineRef {
    /// Hardware address of the card it boots from.
    pub mac: String,
    /// Its name in the node list.
    pub name: Option<String>,
    /// Its address, where we gave it or the node list says it.
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

/// What a machine does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "news", rename_all = "kebab-case")]
pub enum MachineNews {
    /// It asks what to boot.
    Asked {
        /// Its firmware: `BIOS`, `UEFI x64`.
        firmware: String,
        /// How far its boot is: `PXE`, `HTTP boot`, `iPXE`.
        stage: String,
    },
    /// It has an address of ours.
    Leased,
    /// It got its menu.
    Menu {
        /// The entry that boots by itself: `local`, `kamethod`.
        entry: String,
        /// Whether that erases its disks.
        erases: bool,
    },
    /// It fetched the kernel or the boot image.
    Fetched {
        /// Which.
        file: String,
        /// Bytes.
        bytes: u64,
        /// It was the last file: the node starts now.
        starts: bool,
    },
    /// It was cloned: from now on it gets `local`.
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

/// How a clone's first boot from its own disk was noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeenBy {
    /// It said so itself.
    Beacon,
    /// Its operating system asked for an address.
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

/// Whether a clone came back from its own disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "first_boot", rename_all = "kebab-case")]
pub enum FirstBoot {
    /// It was seen.
    Booted {
        /// How.
        seen_by: SeenBy,
        /// From the release until then, milliseconds.
        after_ms: u64,
    },
    /// It was not, as long as we waited.
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
