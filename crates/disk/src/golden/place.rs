//! The place of each golden file system: a partition of the clone. Pure: no device is looked at.
//!
//! A desc line with `mount=` takes that mount point. Else a file system keeps its drive and number, as in the
//! original KA method. A file system without a partition is an error with a remedy.

use std::collections::BTreeMap;

use super::SurveyError;
use super::found::{FoundMount, FoundSwap};
use crate::desc::{Desc, DescEntry};
use crate::fs_type::FsType;
use crate::spec::Place;
use crate::table::KnownType;

/// The desc files by drive, and the places given so far.
pub(super) struct Placer<'a> {
    descs: &'a BTreeMap<String, Desc>,
    taken: BTreeMap<Place, String>,
}

/// A desc line for something that the golden node does not have.
pub(super) struct Extra<'a> {
    pub(super) place: Place,
    pub(super) fstype: FsType,
    pub(super) entry: &'a DescEntry,
}

impl<'a> Placer<'a> {
    pub(super) fn new(descs: &'a BTreeMap<String, Desc>) -> Self {
        Self {
            descs,
            taken: BTreeMap::new(),
        }
    }

    /// Returns the desc line of a place, if the drive has a desc file.
    pub(super) fn entry(&self, place: &Place) -> Option<&'a DescEntry> {
        let desc = self.descs.get(&place.drive)?;
        desc.numbered()
            .into_iter()
            .find(|(number, _)| *number == place.partition)
            .map(|(_, entry)| entry)
    }

    /// Places one mount point. Several subvolumes of one btrfs share their partition.
    pub(super) fn mount(&mut self, mount: &FoundMount) -> Result<Place, SurveyError> {
        let what = if mount.golden.path.is_empty() {
            format!("{} (etc/fstab has no line for it)", mount.mount_point)
        } else {
            format!("{} ({})", mount.mount_point, mount.golden.path)
        };
        let place = match self.line_for(&mount.mount_point)?.or_else(|| self.shared(mount)) {
            Some(place) => place,
            None => self.by_number(&what, mount.on.as_ref(), &mount.mount_point)?,
        };
        let fstype = self
            .entry(&place)
            .and_then(|entry| entry.fs)
            .unwrap_or(mount.fstype);
        self.check_line(&place, &what, fstype)?;
        // Only btrfs can be mounted several times as one file system.
        let owner = if fstype == FsType::Btrfs && mount.fstype == FsType::Btrfs {
            btrfs_owner(mount)
        } else {
            what
        };
        self.take(place, owner)
    }

    /// True if a desc line names its mount point.
    pub(super) fn has_line(&self, mount: &FoundMount) -> bool {
        matches!(self.line_for(&mount.mount_point), Ok(Some(_)))
    }

    /// Returns the place of another subvolume of the same btrfs.
    fn shared(&self, mount: &FoundMount) -> Option<Place> {
        let owner = (mount.fstype == FsType::Btrfs).then(|| btrfs_owner(mount))?;
        let mut taken = self.taken.iter();
        taken
            .find(|(_, known)| **known == owner)
            .map(|(place, _)| place.clone())
    }

    /// True if a partition of the golden node or a desc line holds it, or holds another subvolume of its
    /// btrfs.
    pub(super) fn has_place(&self, mount: &FoundMount, mounts: &[FoundMount]) -> bool {
        let has_line = |path: &str| {
            let mut lines = self.lines();
            lines.any(|(_, entry)| entry.mount.as_deref().is_some_and(|own| same_path(own, path)))
        };
        let is_together = |other: &&FoundMount| {
            other.fstype == FsType::Btrfs
                && mount.fstype == FsType::Btrfs
                && other.golden.path == mount.golden.path
        };
        mount.on.is_some()
            || has_line(&mount.mount_point)
            || mounts
                .iter()
                .filter(is_together)
                .any(|other| has_line(&other.mount_point))
    }

    /// Places a swap area. `None` if there is no place. The choices, in order:
    ///
    /// - its own number, if the desc file or a copied table has it for swap
    /// - the next free `swap` line
    /// - its own drive, copied for it alone
    pub(super) fn swap(&mut self, swap: &FoundSwap) -> Result<Option<Place>, SurveyError> {
        let what = format!("the swap area {}", swap.golden.path);
        let own = swap.on.as_ref().map(|(drive, partition)| Place {
            drive: drive.clone(),
            partition: *partition,
        });
        let described = |place: &Place| self.descs.contains_key(&place.drive);
        let keeps_number = own.clone().filter(|place| match described(place) {
            true => self.entry(place).is_some_and(is_swap_line) && !self.taken.contains_key(place),
            false => self.uses(&place.drive),
        });
        let free_line = || self.free_swap_lines().next().map(|(place, _)| place);
        let place = keeps_number
            .or_else(free_line)
            .or_else(|| own.filter(|place| !described(place)));
        place.map(|place| self.take(place, what)).transpose()
    }

    /// Places a raw copy.
    pub(super) fn raw(&mut self, name: &str, drive: &str, partition: u32) -> Result<Place, SurveyError> {
        let place = Place {
            drive: drive.to_owned(),
            partition,
        };
        if let Some(desc) = self.descs.get(drive)
            && self.entry(&place).is_none_or(|entry| entry.kind.is_extended())
        {
            let problem = format!("{} has no partition {partition} for it: add a line", desc.origin);
            return Err(SurveyError::option(format!("-D {name}"), problem));
        }
        self.take(place, format!("the raw copy of {name} (-D)"))
    }

    /// Returns the desc lines that are left when everything golden has its place: swap lines, and lines with
    /// `fs=`.
    pub(super) fn extras(&self) -> Vec<Extra<'a>> {
        let with_fs = self.lines().filter_map(|(place, entry)| {
            let swap = is_swap_line(entry).then_some(FsType::Swap);
            entry.fs.or(swap).map(|fstype| Extra { place, fstype, entry })
        });
        with_fs
            .filter(|extra| !self.taken.contains_key(&extra.place))
            .collect()
    }

    /// True if anything is placed on that drive.
    pub(super) fn uses(&self, drive: &str) -> bool {
        self.taken.keys().any(|place| place.drive == drive)
    }

    /// True if anything is placed on that partition.
    pub(super) fn is_taken(&self, drive: &str, partition: u32) -> bool {
        self.taken.contains_key(&Place {
            drive: drive.to_owned(),
            partition,
        })
    }

    /// Refuses `mount=` lines that name no golden mount point: a typing error would lose a file system.
    pub(super) fn check_mount_lines(&self, mounts: &[FoundMount]) -> Result<(), SurveyError> {
        for (place, entry) in self.lines() {
            let Some(path) = &entry.mount else { continue };
            if !mounts.iter().any(|mount| same_path(&mount.mount_point, path)) {
                let known: Vec<&str> = mounts.iter().map(|mount| mount.mount_point.as_str()).collect();
                let problem = format!(
                    "mount={path}: the golden node mounts nothing there; its mount points are {}",
                    known.join(" ")
                );
                return Err(self.desc_error(&place, problem));
            }
        }
        Ok(())
    }

    fn line_for(&self, mount_point: &str) -> Result<Option<Place>, SurveyError> {
        let is_for = |entry: &DescEntry| {
            entry
                .mount
                .as_deref()
                .is_some_and(|path| same_path(path, mount_point))
        };
        let mut lines = self
            .lines()
            .filter(|(_, entry)| is_for(entry))
            .map(|(place, _)| place);
        let first = lines.next();
        if let Some(second) = lines.next() {
            return Err(self.desc_error(
                &second,
                format!("a second line says mount={mount_point}: leave one of them out"),
            ));
        }
        Ok(first)
    }

    fn by_number(
        &self,
        what: &str,
        on: Option<&(String, u32)>,
        mount_point: &str,
    ) -> Result<Place, SurveyError> {
        let no_place = |remedy: String| SurveyError::NoPlace {
            what: what.to_owned(),
            remedy,
        };
        let Some((drive, partition)) = on else {
            return Err(no_place(format!(
                "it is on no plain partition of the golden node: give it a desc line (-p DRIVE DESC) with mount={mount_point}"
            )));
        };
        let place = Place {
            drive: drive.clone(),
            partition: *partition,
        };
        let Some(desc) = self.descs.get(drive) else {
            return Ok(place);
        };
        match self.entry(&place) {
            Some(entry) if entry.mount.is_none() && !entry.kind.is_extended() => Ok(place),
            Some(entry) => Err(no_place(format!(
                "{}:{} gives partition {partition} to {}: add mount={mount_point} to the line that is to hold it",
                desc.origin,
                entry.line,
                entry.mount.as_deref().unwrap_or("an extended partition")
            ))),
            None => Err(no_place(format!(
                "{} has no partition {partition}: add a line for it, or mount={mount_point} to another",
                desc.origin
            ))),
        }
    }

    fn check_line(&self, place: &Place, what: &str, fstype: FsType) -> Result<(), SurveyError> {
        let Some(entry) = self.entry(place) else {
            return Ok(());
        };
        if entry.kind.is_extended() {
            return Err(self.desc_error(place, format!("{what} cannot live in an extended partition")));
        }
        if is_swap_line(entry) || fstype == FsType::Swap {
            let problem = format!(
                "this line is swap, but partition {} is {what} on the golden node: change the order of the lines, or say mount= where it is to go",
                place.partition
            );
            return Err(self.desc_error(place, problem));
        }
        Ok(())
    }

    fn take(&mut self, place: Place, owner: String) -> Result<Place, SurveyError> {
        match self.taken.get(&place) {
            Some(other) if *other != owner => Err(SurveyError::NoPlace {
                what: owner,
                remedy: format!(
                    "{place} is taken by {other}: give each a partition of its own with mount= in the desc file"
                ),
            }),
            _ => {
                self.taken.insert(place.clone(), owner);
                Ok(place)
            }
        }
    }

    fn free_swap_lines(&self) -> impl Iterator<Item = (Place, &'a DescEntry)> {
        self.lines()
            .filter(|(place, entry)| is_swap_line(entry) && !self.taken.contains_key(place))
    }

    fn lines(&self) -> impl Iterator<Item = (Place, &'a DescEntry)> {
        let descs = self.descs;
        descs.iter().flat_map(|(drive, desc)| {
            let place = |partition| Place {
                drive: drive.clone(),
                partition,
            };
            desc.numbered()
                .into_iter()
                .map(move |(number, entry)| (place(number), entry))
        })
    }

    /// Makes an error at the desc line of a place.
    pub(super) fn desc_error(&self, place: &Place, problem: String) -> SurveyError {
        let origin = self
            .descs
            .get(&place.drive)
            .map(|desc| desc.origin.clone())
            .unwrap_or_default();
        SurveyError::Desc {
            origin,
            line: self.entry(place).map_or(0, |entry| entry.line),
            problem,
        }
    }
}

fn btrfs_owner(mount: &FoundMount) -> String {
    format!("the btrfs on {}", mount.golden.path)
}

/// True for a swap line, by its partition type or by `fs=swap`.
fn is_swap_line(entry: &DescEntry) -> bool {
    match entry.fs {
        Some(fstype) => fstype == FsType::Swap,
        None => entry.mount.is_none() && entry.kind.known() == Some(KnownType::Swap),
    }
}

/// True if both are one path: `/home/` is `/home`.
fn same_path(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
