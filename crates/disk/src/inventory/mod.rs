//! The disks of this machine, and which of them becomes which drive of the clone.
//!
//! [`disks`] reads sysfs and writes nothing; [`choose`] is the rule that decides, on data alone.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::spec::InstallSpec;

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
    /// The kernel calls it removable, or it hangs on USB or a card reader.
    pub removable: bool,
    /// It was named by the operator or by its exact name: loop and ram disks are looked at only then.
    pub named_only: bool,
    /// Who uses it or a partition of it: `mounted at /home`.
    pub in_use: Option<String>,
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

/// No disk may be taken for a drive. Several lines: the reason, then the candidates.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ChooseError(String);

/// The disks of this machine. Loop, ram, device-mapper and other made-up disks are listed only when they are
/// in `named` (names or paths).
///
/// # Errors
/// [`InventoryError`] when sysfs cannot be read.
pub fn disks(named: &[String]) -> Result<Vec<Disk>, InventoryError> {
    let _ = named;
    Ok(Vec::new())
}

/// Chooses a disk for every drive of the spec. `overrides` are the `--disk DRIVE=DISK` options.
///
/// # Errors
/// [`ChooseError`]: ambiguous, too small, in use, removable or not there, with the candidates and the option
/// that decides.
pub fn choose(
    spec: &InstallSpec,
    disks: &[Disk],
    overrides: &[(String, String)],
) -> Result<Vec<Choice>, ChooseError> {
    let _ = (spec, disks, overrides);
    Err(ChooseError("the choice is being written".to_owned()))
}
