//! Which disk becomes which drive: a pure rule.

use super::scan::kernel_name;
use super::{Choice, Disk};
use crate::layout::{self, Geometry};
use crate::spec::{DriveSpec, InstallSpec, check_fit};

/// No disk may be taken for a drive. The reason and what decides on the first line, then the disks, one a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChooseError {
    /// `--disk` names a drive that the golden node does not send.
    #[error("--disk {drive}=…: the server sends no drive {drive}; it sends {known}")]
    UnknownDrive {
        /// What was named.
        drive: String,
        /// What there is.
        known: String,
    },
    /// The disk that was named, by `--disk` or by having the golden name, cannot be taken.
    #[error("{disk} cannot become {drive}: {reason}; name another with --disk {drive}=/dev/…{candidates}")]
    Unsuitable {
        /// Golden name of the drive.
        drive: String,
        /// The disk.
        disk: String,
        /// Why not.
        reason: String,
        /// The disks, one a line.
        candidates: String,
    },
    /// No disk fits.
    #[error("no disk here can become {drive}: name one with --disk {drive}=/dev/…{candidates}")]
    NoneFits {
        /// Golden name of the drive.
        drive: String,
        /// The disks, one a line, with what is against each.
        candidates: String,
    },
    /// Several disks fit.
    #[error("several disks could become {drive}: say which with --disk {drive}=/dev/…{candidates}")]
    Ambiguous {
        /// Golden name of the drive.
        drive: String,
        /// The disks, one a line.
        candidates: String,
    },
}

/// Chooses a disk for every drive of the spec. `overrides` are the `--disk DRIVE=DISK` options; a disk is a
/// name or a path.
///
/// # Errors
/// [`ChooseError`], with the candidates and the option that decides.
pub fn choose(
    spec: &InstallSpec,
    disks: &[Disk],
    overrides: &[(String, String)],
) -> Result<Vec<Choice>, ChooseError> {
    let chooser = Chooser { spec, disks };
    for (drive, _) in overrides {
        if spec.drive(drive).is_none() {
            let known = spec
                .drives
                .iter()
                .map(|drive| drive.name.as_str())
                .collect::<Vec<_>>()
                .join(", ");
            return Err(ChooseError::UnknownDrive {
                drive: drive.clone(),
                known,
            });
        }
    }
    let mut choices: Vec<Choice> = Vec::new();
    // Named ones first, so that the rule does not take a disk that a later drive has by name.
    for drive in &spec.drives {
        let wanted = overrides
            .iter()
            .rev()
            .find(|(name, _)| *name == drive.name)
            .map(|(_, disk)| disk);
        let chosen = match wanted {
            Some(disk) => Some(chooser.named(drive, disk, &choices)?),
            None if overrides.iter().any(|(_, disk)| kernel_name(disk) == drive.name) => None,
            None => chooser.by_exact_name(drive, &choices)?,
        };
        choices.extend(chosen.map(|disk| Choice {
            drive: drive.name.clone(),
            disk,
        }));
    }
    for drive in &spec.drives {
        if !choices.iter().any(|choice| choice.drive == drive.name) {
            let disk = chooser.by_rule(drive, &choices)?;
            choices.push(Choice {
                drive: drive.name.clone(),
                disk,
            });
        }
    }
    let order = |choice: &Choice| spec.drives.iter().position(|drive| drive.name == choice.drive);
    choices.sort_by_key(order);
    Ok(choices)
}

struct Chooser<'a> {
    spec: &'a InstallSpec,
    disks: &'a [Disk],
}

impl Chooser<'_> {
    fn named(&self, drive: &DriveSpec, wanted: &str, taken: &[Choice]) -> Result<Disk, ChooseError> {
        let name = kernel_name(wanted);
        let Some(disk) = self.disks.iter().find(|disk| disk.name == name) else {
            return Err(self.unsuitable(drive, wanted, "there is no such disk".to_owned(), taken));
        };
        // Who names a disk knows that it can be pulled out.
        match self.objection(drive, disk, taken, true) {
            Some(reason) => Err(self.unsuitable(drive, &disk.to_string(), reason, taken)),
            None => Ok(disk.clone()),
        }
    }

    fn by_exact_name(&self, drive: &DriveSpec, taken: &[Choice]) -> Result<Option<Disk>, ChooseError> {
        let Some(disk) = self.disks.iter().find(|disk| disk.name == drive.name) else {
            return Ok(None);
        };
        match self.objection(drive, disk, taken, false) {
            Some(reason) => Err(self.unsuitable(drive, &disk.to_string(), reason, taken)),
            None => Ok(Some(disk.clone())),
        }
    }

    fn by_rule(&self, drive: &DriveSpec, taken: &[Choice]) -> Result<Disk, ChooseError> {
        let fits = |disk: &&Disk| !disk.named_only && self.objection(drive, disk, taken, false).is_none();
        let mut fitting = self.disks.iter().filter(fits);
        let candidates = || self.candidates(drive, taken);
        match (fitting.next(), fitting.next()) {
            (Some(disk), None) => Ok(disk.clone()),
            (Some(_), Some(_)) => Err(ChooseError::Ambiguous {
                drive: drive.name.clone(),
                candidates: candidates(),
            }),
            (None, _) => Err(ChooseError::NoneFits {
                drive: drive.name.clone(),
                candidates: candidates(),
            }),
        }
    }

    /// What is against taking this disk for this drive.
    fn objection(&self, drive: &DriveSpec, disk: &Disk, taken: &[Choice], named: bool) -> Option<String> {
        if let Some(choice) = taken.iter().find(|choice| choice.disk.name == disk.name) {
            return Some(format!("it becomes {} already", choice.drive));
        }
        if let Some(using) = &disk.in_use {
            return Some(format!("it is in use ({using})"));
        }
        if disk.removable && !named {
            return Some("it is removable".to_owned());
        }
        let geometry = Geometry {
            disk_bytes: disk.bytes,
            sector_size: disk.sector_size,
        };
        let plan = layout::plan(
            &drive.source,
            &geometry,
            drive.golden_table,
            false,
            &mut uuid::Uuid::new_v4,
        );
        match plan {
            Err(error) => Some(error.to_string()),
            Ok(plan) => check_fit(self.spec, &drive.name, &plan)
                .err()
                .map(|error| error.to_string()),
        }
    }

    fn unsuitable(&self, drive: &DriveSpec, disk: &str, reason: String, taken: &[Choice]) -> ChooseError {
        let candidates = self.candidates(drive, taken);
        ChooseError::Unsuitable {
            drive: drive.name.clone(),
            disk: disk.to_owned(),
            reason,
            candidates,
        }
    }

    /// One line a disk, each beginning on a new line, with what is against it.
    fn candidates(&self, drive: &DriveSpec, taken: &[Choice]) -> String {
        let line = |disk: &Disk| {
            let objection = self.objection(drive, disk, taken, false);
            let verdict = objection.unwrap_or_else(|| "fits".to_owned());
            format!("\n  {disk}  ({verdict})")
        };
        if self.disks.is_empty() {
            "\n  (there is no disk at all)".to_owned()
        } else {
            self.disks.iter().map(line).collect()
        }
    }
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
