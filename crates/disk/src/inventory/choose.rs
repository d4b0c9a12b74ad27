//! The choice of a disk for each drive: a pure rule.

use super::matching::{Undecided, only_way};
use super::scan::Named;
use super::{Choice, Disk};
use crate::layout;
use crate::spec::{DriveSpec, InstallSpec, check_fit};

/// The reason why no disk may be taken for a drive. The first line has the reason and the option that
/// decides; then follow the disks, one a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChooseError {
    /// `--disk` names a drive that the golden node does not send.
    #[error("--disk {drive}=…: the server sends no drive {drive}; it sends {known}")]
    UnknownDrive {
        /// Golden name of the drive that was named.
        drive: String,
        /// Golden names of all drives, for the message.
        known: String,
    },
    /// The disk that was named, or that has the golden name and is in use, cannot be taken.
    #[error("{disk} cannot become {drive}: {reason}; name another with --disk {drive}=/dev/…{candidates}")]
    Unsuitable {
        /// Golden name of the drive.
        drive: String,
        /// Name of the disk.
        disk: String,
        /// Reason against the disk.
        reason: String,
        /// The disks, one a line.
        candidates: String,
    },
    /// No disk fits.
    #[error("no disk here can become {drive}: name one with --disk {drive}=/dev/…{candidates}")]
    NoneFits {
        /// Golden name of the drive.
        drive: String,
        /// The disks, one a line, with the reason against each.
        candidates: String,
    },
    /// Two options name a disk for one drive.
    #[error("--disk names two disks for {drive}: {first} and {second}; give one")]
    Contradiction {
        /// Golden name of the drive.
        drive: String,
        /// Disk of the first option.
        first: String,
        /// Disk of the second option.
        second: String,
    },
    /// Several disks fit; or one fits that is not empty, beside another that is refused only because it is in
    /// use.
    #[error(
        "several disks could become {drive}: say which with --disk {drive}=/dev/… (disk={drive}=/dev/… in a list of \
         nodes){candidates}"
    )]
    Ambiguous {
        /// Golden name of the drive.
        drive: String,
        /// The disks, one a line.
        candidates: String,
    },
}

/// The operator's options about this node's disks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `--disk DRIVE=DISK`: golden name of a drive, and name or path of the disk for it.
    pub disks: Vec<(String, String)>,
    /// `--erase-members`: parts of volume groups, arrays and pools may be erased.
    pub erase_members: bool,
}

/// Chooses a disk for every drive of the spec: the one that was named, else the only one that fits.
///
/// # Errors
/// [`ChooseError`], with the candidates and the option that decides.
pub fn choose(spec: &InstallSpec, disks: &[Disk], wishes: &Wishes) -> Result<Vec<Choice>, ChooseError> {
    check_wishes(spec, wishes)?;
    let chooser = Chooser { spec, disks, wishes };
    let mut choices: Vec<Choice> = Vec::new();
    for drive in &spec.drives {
        // Named drives come first, so that the rule does not take a disk that a later drive has by name.
        if let Some(wanted) = wishes.disk_for(&drive.name) {
            let disk = chooser.named(drive, wanted, &choices)?;
            choices.push(Choice::new(drive, disk));
        }
    }
    let by_rule = chooser.by_rule(&choices)?;
    choices.extend(by_rule);
    let order = |choice: &Choice| spec.drives.iter().position(|drive| drive.name == choice.drive);
    choices.sort_by_key(order);
    Ok(choices)
}

fn check_wishes(spec: &InstallSpec, wishes: &Wishes) -> Result<(), ChooseError> {
    for (drive, disk) in &wishes.disks {
        if spec.drive(drive).is_none() {
            let names: Vec<_> = spec.drives.iter().map(|drive| drive.name.as_str()).collect();
            return Err(ChooseError::UnknownDrive {
                drive: drive.clone(),
                known: names.join(", "),
            });
        }
        if let Some(first) = wishes.disk_for(drive)
            && first != disk
        {
            return Err(ChooseError::Contradiction {
                drive: drive.clone(),
                first: first.to_owned(),
                second: disk.clone(),
            });
        }
    }
    Ok(())
}

impl Wishes {
    fn disk_for(&self, drive: &str) -> Option<&str> {
        let mut named = self.disks.iter().filter(|(name, _)| name == drive);
        named.next().map(|(_, disk)| disk.as_str())
    }
}

impl Choice {
    fn new(drive: &DriveSpec, disk: &Disk) -> Self {
        Self {
            drive: drive.name.clone(),
            disk: disk.clone(),
        }
    }
}

/// An objection to taking a disk for a drive.
enum Objection {
    /// The disk does not suit this drive: too small, taken, removable.
    Unfit(String),
    /// The disk would do, but it is in use, or it belongs to something larger.
    Kept(String),
}

impl Objection {
    fn text(self) -> String {
        match self {
            Self::Unfit(reason) | Self::Kept(reason) => reason,
        }
    }
}

struct Chooser<'a> {
    spec: &'a InstallSpec,
    disks: &'a [Disk],
    wishes: &'a Wishes,
}

impl Chooser<'_> {
    fn named(&self, drive: &DriveSpec, wanted: &str, taken: &[Choice]) -> Result<&Disk, ChooseError> {
        let Some(disk) = Named::new(wanted).among(self.disks) else {
            let reason = "there is no such whole disk".to_owned();
            return Err(self.unsuitable(drive, wanted, reason, taken));
        };
        // An operator who names a disk knows that it can be pulled out, and what is on it.
        match self.misfit(drive, disk, taken).or_else(|| in_use(disk)) {
            Some(reason) => Err(self.unsuitable(drive, &disk.to_string(), reason, taken)),
            None => Ok(disk),
        }
    }

    /// Chooses disks for the drives without a named disk: there must be exactly one way to give each drive a
    /// disk.
    fn by_rule(&self, taken: &[Choice]) -> Result<Vec<Choice>, ChooseError> {
        let is_open = |drive: &&DriveSpec| !taken.iter().any(|choice| choice.drive == drive.name);
        let drives: Vec<&DriveSpec> = self.spec.drives.iter().filter(is_open).collect();
        for drive in &drives {
            self.check_golden_name(drive, taken)?;
        }
        let fitting = |drive: &&DriveSpec| {
            let fits = |(_, disk): &(usize, &Disk)| self.objection(drive, disk, taken).is_none();
            let found = self.disks.iter().enumerate().filter(fits);
            found.map(|(index, _)| index).collect::<Vec<_>>()
        };
        let wants: Vec<Vec<usize>> = drives.iter().map(fitting).collect();
        let given = only_way(&wants).map_err(|undecided| self.undecided(undecided, &drives, taken))?;
        let choices: Vec<Choice> = drives
            .iter()
            .zip(given)
            .map(|(drive, index)| Choice::new(drive, &self.disks[index]))
            .collect();
        for (drive, choice) in drives.iter().zip(&choices) {
            // Beside a disk that is kept, one with data on it may be the wrong one of the two.
            if !choice.disk.contents.is_empty() && self.keeps_another(drive, taken, &choices) {
                return Err(self.ambiguous(drive, taken));
            }
        }
        Ok(choices)
    }

    /// Refuses if the disk of the golden name is in use: it is the likeliest one to be meant. Otherwise the
    /// golden name has no influence on the choice.
    fn check_golden_name(&self, drive: &DriveSpec, taken: &[Choice]) -> Result<(), ChooseError> {
        let of_that_name = |disk: &&Disk| disk.name == drive.name && !disk.removable;
        let Some(disk) = self.disks.iter().find(of_that_name) else {
            return Ok(());
        };
        let is_taken = taken.iter().any(|choice| choice.disk.name == disk.name);
        match in_use(disk) {
            Some(reason) if !is_taken => Err(self.unsuitable(drive, &disk.to_string(), reason, taken)),
            _ => Ok(()),
        }
    }

    fn keeps_another(&self, drive: &DriveSpec, taken: &[Choice], choices: &[Choice]) -> bool {
        let is_chosen = |disk: &Disk| choices.iter().any(|choice| choice.disk.name == disk.name);
        self.disks.iter().any(|disk| {
            !is_chosen(disk) && matches!(self.objection(drive, disk, taken), Some(Objection::Kept(_)))
        })
    }

    /// Returns the objection to taking this disk by rule.
    fn objection(&self, drive: &DriveSpec, disk: &Disk, taken: &[Choice]) -> Option<Objection> {
        if disk.named_only {
            return Some(Objection::Unfit("it is taken only when it is named".to_owned()));
        }
        if disk.removable {
            return Some(Objection::Unfit("it is removable".to_owned()));
        }
        if let Some(reason) = self.misfit(drive, disk, taken) {
            return Some(Objection::Unfit(reason));
        }
        in_use(disk)
            .or_else(|| self.other_path(disk))
            .or_else(|| self.member(disk))
            .map(Objection::Kept)
    }

    /// Finds another disk with the same world-wide name: both are paths to one disk, which is shared or
    /// belongs to a multipath device.
    fn other_path(&self, disk: &Disk) -> Option<String> {
        let is_same =
            |other: &&Disk| other.name != disk.name && other.wwid == disk.wwid && other.bytes == disk.bytes;
        let other = self
            .disks
            .iter()
            .filter(|_| !disk.wwid.is_empty())
            .find(is_same)?;
        Some(format!("{} has the same WWID: two paths to one disk", other.name))
    }

    fn member(&self, disk: &Disk) -> Option<String> {
        let member = disk
            .contents
            .member(&disk.name)
            .filter(|_| !self.wishes.erase_members)?;
        Some(format!(
            "{member}: erased only when it is named, or with --erase-members"
        ))
    }

    /// Returns the reason why the disk does not suit the drive, whatever is on it.
    fn misfit(&self, drive: &DriveSpec, disk: &Disk, taken: &[Choice]) -> Option<String> {
        if let Some(choice) = taken.iter().find(|choice| choice.disk.name == disk.name) {
            return Some(format!("it becomes {} already", choice.drive));
        }
        let plan = layout::plan(
            &drive.source,
            &disk.geometry(),
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

    fn undecided(&self, undecided: Undecided, drives: &[&DriveSpec], taken: &[Choice]) -> ChooseError {
        match undecided {
            Undecided::Several(index) => self.ambiguous(drives[index], taken),
            Undecided::Nothing(index) => ChooseError::NoneFits {
                drive: drives[index].name.clone(),
                candidates: self.candidates(drives[index], taken),
            },
        }
    }

    fn ambiguous(&self, drive: &DriveSpec, taken: &[Choice]) -> ChooseError {
        ChooseError::Ambiguous {
            drive: drive.name.clone(),
            candidates: self.candidates(drive, taken),
        }
    }

    fn unsuitable(&self, drive: &DriveSpec, disk: &str, reason: String, taken: &[Choice]) -> ChooseError {
        ChooseError::Unsuitable {
            drive: drive.name.clone(),
            disk: disk.to_owned(),
            reason,
            candidates: self.candidates(drive, taken),
        }
    }

    /// Lists the disks, each on a new line, with its contents and the objection to it.
    fn candidates(&self, drive: &DriveSpec, taken: &[Choice]) -> String {
        let line = |disk: &Disk| {
            let verdict = match self.objection(drive, disk, taken) {
                Some(objection) => objection.text(),
                None if disk.contents.is_empty() => "fits".to_owned(),
                None => format!("fits; now holds {}", disk.contents),
            };
            format!("\n  {disk}  ({verdict})")
        };
        if self.disks.is_empty() {
            "\n  (there is no disk at all)".to_owned()
        } else {
            self.disks.iter().map(line).collect()
        }
    }
}

fn in_use(disk: &Disk) -> Option<String> {
    let using = disk.in_use.as_ref()?;
    Some(format!("it is in use ({using})"))
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
