//! The disks of this machine, and which of them becomes which drive of the clone.
//!
//! [`disks`] reads sysfs and the disks, and writes nothing; [`choose()`] is the rule that decides, on data alone: the
//! disk that was named, else the only one that fits, and in any doubt a refusal with the candidates. The kernel's names
//! follow the order in which drivers find disks, so that a disk is never taken for having the golden one's name.

mod choose;
mod links;
mod matching;
mod scan;
mod users;

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use choose::{ChooseError, Wishes, choose};
pub use scan::{disks, numbers_of};

use crate::contents::Contents;

/// A disk as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The kernel's name: `sda`.
    pub name: String,
    /// Its device node.
    pub path: PathBuf,
    /// Size in bytes.
    pub bytes: u64,
    /// Logical sector size in bytes.
    pub sector_size: u32,
    /// What the disk calls itself.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// World-wide name; empty where the kernel knows none. Two disks of one name and size are two paths to one.
    #[serde(default)]
    pub wwid: String,
    /// Its names in `/dev/disk/by-path`.
    #[serde(default)]
    pub by_path: Vec<String>,
    /// Major and minor number.
    #[serde(default)]
    pub numbers: (u32, u32),
    /// The kernel's number of this disk, which no other gets before the next boot (`diskseq`, Linux 5.15).
    #[serde(default)]
    pub seq: Option<u64>,
    /// The kernel calls it removable, or it hangs on USB or in a card reader.
    pub removable: bool,
    /// A loop, ram or mapped disk: taken only when it is named, never by rule.
    pub named_only: bool,
    /// Who uses it or a partition of it: `sda1 is mounted at /home`.
    pub in_use: Option<String>,
    /// What is on it now; not looked at while it is in use.
    #[serde(default)]
    pub contents: Contents,
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |text: &str| {
            if text.is_empty() {
                "-".to_owned()
            } else {
                text.to_owned()
            }
        };
        let tenths = self.bytes / 100_000_000;
        write!(f, "{}  {}.{} GB", self.path.display(), tenths / 10, tenths % 10)?;
        write!(
            f,
            "  model {}  serial {}",
            or_none(&self.model),
            or_none(&self.serial)
        )
    }
}

/// A disk chosen for a drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// Golden name of the drive.
    pub drive: String,
    /// The disk that becomes it.
    pub disk: Disk,
}

/// The disks could not be listed.
#[derive(Debug, thiserror::Error)]
#[error("listing the disks in {}: {source}", path.display())]
pub struct InventoryError {
    /// What was read.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: std::io::Error,
}
