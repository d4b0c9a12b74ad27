//! The disks of this machine, and the choice of a disk for each drive of the clone.
//!
//! [`disks`] reads sysfs and the disks, and writes nothing. [`choose()`] is the rule that decides, on data
//! alone. It takes the disk that was named, else the only one that fits; in any doubt it refuses and lists
//! the candidates. The kernel's names follow the order in which drivers find disks, so a golden name is never
//! a reason to take a disk.

mod choose;
mod links;
mod matching;
mod scan;
mod users;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use choose::{ChooseError, Wishes, choose};
pub use scan::{disks, numbers_of};

use crate::contents::Contents;
use crate::layout::Geometry;

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
    /// Model as the disk reports it.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// World-wide name; empty if the kernel knows none. Two disks of one name and size are two paths to one.
    #[serde(default)]
    pub wwid: String,
    /// Its names in `/dev/disk/by-path`.
    #[serde(default)]
    pub by_path: Vec<String>,
    /// Major and minor number.
    #[serde(default)]
    pub numbers: (u32, u32),
    /// The kernel's number of this disk; no other disk gets it before the next boot (`diskseq`, Linux 5.15).
    #[serde(default)]
    pub seq: Option<u64>,
    /// True if the kernel calls it removable, or it is on USB or in a card reader.
    pub removable: bool,
    /// True for a loop, ram or mapped disk: it is taken only when it is named, never by rule.
    pub named_only: bool,
    /// Use of the disk or of one of its partitions: `sda1 is mounted at /home`.
    pub in_use: Option<String>,
    /// Present contents; not read while the disk is in use.
    #[serde(default)]
    pub contents: Contents,
}

impl Disk {
    /// Returns what a plan must know of it.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        Geometry {
            disk_bytes: self.bytes,
            sector_size: self.sector_size,
        }
    }
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
    /// Disk that becomes this drive.
    pub disk: Disk,
}

/// An error while the disks were listed.
#[derive(Debug, thiserror::Error)]
#[error("listing the disks in {}: {source}", path.display())]
pub struct InventoryError {
    /// File or directory that was read.
    pub path: PathBuf,
    /// The kernel's error.
    #[source]
    pub source: std::io::Error,
}

/// Lists the directories below a disk's that are partitions of it.
fn partition_dirs(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut dirs: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("partition").exists())
        .collect();
    dirs.sort();
    dirs
}
