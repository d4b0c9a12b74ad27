//! The present contents of a disk: its table, its file systems, and its parts that belong to something
//! larger.
//!
//! Nothing here writes. A node that was booted into memory assembles no volume group, array or pool, so a
//! check for mounts alone would take their members for empty. So the signatures themselves are looked for, on
//! the whole disk and in each of its partitions. Some are at the end: md 0.90 and 1.0, DRBD, two of the four
//! ZFS labels. The program blkid(8) adds the names of file systems; its word also counts for a member that
//! `member` does not know.

mod disk;
mod member;
mod region;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use disk::look;

/// The most file systems that are named when contents are shown; the others are only counted.
const SHOWN: usize = 6;

/// The present contents of a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Kind of the partition table in a word: `gpt`, `mbr`.
    pub table: Option<String>,
    /// The disk as a whole and its partitions, as far as anything is known about them.
    pub areas: Vec<Area>,
    /// The kernel's error if the disk, or a part of it, could not be read.
    pub unreadable: Option<String>,
}

/// The whole disk or one of its partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Area {
    /// Number of the partition; `None` for the disk as a whole.
    pub partition: Option<u32>,
    /// First byte on the disk.
    pub start_bytes: u64,
    /// Length in bytes.
    pub len_bytes: u64,
    /// Its file system, swap area or encryption, as blkid calls it.
    pub fstype: Option<String>,
    /// Label of the file system.
    pub label: Option<String>,
    /// The larger whole that it is a part of: `LVM (volume group vg0)`.
    pub member: Option<String>,
}

impl Contents {
    /// True if nothing was found: no table, no file system, no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_none() && self.areas.is_empty() && self.unreadable.is_none()
    }

    /// Names the first part that belongs to something larger or cannot be read: a reason not to take the disk
    /// unless the operator names it. `disk` is the kernel's name of the disk.
    #[must_use]
    pub fn member(&self, disk: &str) -> Option<String> {
        let member = self
            .areas
            .iter()
            .find_map(|area| area.member.as_ref().map(|member| (area, member)));
        if let Some((area, member)) = member {
            let name = match area.partition {
                Some(number) => crate::spec::partition_name(disk, number),
                None => disk.to_owned(),
            };
            return Some(format!("{name} belongs to {member}"));
        }
        let error = self.unreadable.as_ref()?;
        Some(format!("{disk} cannot be looked at: {error}"))
    }

    fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = self.table.iter().cloned().collect();
        words.extend(self.areas.iter().take(SHOWN).map(ToString::to_string));
        if self.areas.len() > SHOWN {
            words.push(format!("{} more", self.areas.len() - SHOWN));
        }
        words.extend(
            self.unreadable
                .iter()
                .map(|error| format!("unreadable ({error})")),
        );
        words
    }
}

impl fmt::Display for Contents {
    /// Writes one line: `gpt, vfat "ESP", ext4 "root"`, or `nothing` if nothing was found.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing");
        }
        f.write_str(&self.words().join(", "))
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.member, &self.fstype) {
            (Some(member), _) => write!(f, "a part of {member}")?,
            (None, Some(fstype)) => f.write_str(fstype)?,
            (None, None) => f.write_str("something unknown")?,
        }
        match &self.label {
            Some(label) if self.member.is_none() => write!(f, " \"{label}\""),
            _ => Ok(()),
        }
    }
}

/// Makes a name from a disk fit to be shown: one line, no control characters, a bounded length.
fn shown(name: &str) -> String {
    const LONGEST: usize = 64;
    name.chars()
        .filter(|c| !c.is_control() && *c != '"')
        .take(LONGEST)
        .collect()
}

#[cfg(test)]
mod tests;
