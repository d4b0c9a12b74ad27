//! The desc file: one partition a line, as the original KA method wrote it, and what was added.
//!
//! Parsing here is pure and knows no disk: what a line becomes on a given disk is decided by
//! [`crate::layout`]. The grammar is told in `docs/desc.md` (issue "Clone a golden node", §3).

mod check;
mod error;
mod from_table;
mod keys;
mod parse;
mod size;
#[cfg(test)]
mod tests;
mod words;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use error::{DescError, Problem};
pub use size::{MIB, Percent, Size};

pub(crate) use keys::LEGACY_BOOT_BIT;

use crate::spec::FsType;
use crate::table::{KnownType, PartType, TableKind};

/// Partitions a desc file may ask for: what a GPT of the usual size has entries for.
pub const MAX_PARTITIONS: u32 = 128;

/// UTF-16 units in a GPT partition name (UEFI 2.10 table 5.6).
pub const MAX_NAME_UNITS: usize = 36;

/// Above this size a disk gets a GPT unless the desc file says otherwise: an MBR with 512-byte
/// sectors ends there, and firmware and boot loaders stumble beyond it with larger ones.
pub const GPT_ABOVE_BYTES: u64 = 2 << 40;

/// A desc file, checked as far as that is possible without a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desc {
    /// The name of the file it was read from, for error messages of a later stage.
    pub origin: String,
    /// What the `table` line asks for; `None` without such a line.
    pub table: Option<TableKind>,
    /// `table gpt pmbr_boot`: the protective entry in front of the GPT is active, for BIOSes that start nothing else.
    #[serde(default)]
    pub pmbr_boot: bool,
    /// The partitions in the order of their lines, which is their order on the disk.
    pub entries: Vec<DescEntry>,
}

/// One line of a desc file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescEntry {
    /// Line number in the file, counted from 1.
    pub line: u32,
    /// Whether the line begins with `logical`.
    pub logical: bool,
    /// The partition's type.
    pub kind: PartType,
    /// How large it is to be.
    pub size: Size,
    /// `number=`: the partition's number, where it is not to be the lowest free one.
    pub number: Option<u32>,
    /// `fs=`: the file system to make, instead of the golden node's.
    pub fs: Option<FsType>,
    /// `mount=`: the golden mount point that comes to live here.
    pub mount: Option<String>,
    /// `label=`: the file system's label, instead of the golden one's.
    pub label: Option<String>,
    /// `options=`: mount options for the clone's fstab, instead of the golden ones.
    pub options: Option<String>,
    /// `name=`: GPT partition name.
    pub name: Option<String>,
    /// `boot`: the MBR active flag, or GPT's "legacy BIOS bootable" attribute.
    pub boot: bool,
    /// `attrs=`: GPT attribute bits.
    pub attrs: u64,
}

impl Desc {
    /// Reads a desc file's text; `origin` is its name in error messages.
    ///
    /// # Errors
    /// [`DescError`] for the first line that is wrong.
    pub fn parse(text: &str, origin: &str) -> Result<Self, DescError> {
        parse::parse(text, origin)
    }

    /// The same for the bytes of a file, which may turn out to be no text.
    ///
    /// # Errors
    /// [`DescError`] for the first line that is wrong.
    pub fn parse_bytes(bytes: &[u8], origin: &str) -> Result<Self, DescError> {
        parse::parse_bytes(bytes, origin)
    }

    /// Each line with the number its partition will have, in the order of the lines.
    ///
    /// Numbers do not depend on the disk or the kind of table: logical partitions count from 5 also
    /// where they become plain GPT partitions, and the extended one keeps its number to itself.
    pub fn numbered(&self) -> Vec<(u32, &DescEntry)> {
        check::numbered(&self.entries)
    }

    /// Checks the lines together, and for what a `kind` table cannot hold.
    ///
    /// # Errors
    /// [`DescError`] for the first line that is impossible there.
    pub fn check_for(&self, kind: TableKind) -> Result<(), DescError> {
        let checked = check::together(&self.entries).and_then(|()| check::on_table(self, kind));
        checked.map_err(|(line, problem)| self.error(line, problem))
    }

    /// The kind of table this file leads to on a disk of `disk_bytes`, where the golden drive has a
    /// `golden` one.
    pub fn table_for(&self, golden: TableKind, disk_bytes: u64) -> TableKind {
        let default = if disk_bytes > GPT_ABOVE_BYTES {
            TableKind::Gpt
        } else {
            golden
        };
        self.table.unwrap_or(default)
    }

    /// An error at one of this file's lines.
    pub fn error(&self, line: u32, problem: Problem) -> DescError {
        DescError {
            origin: self.origin.clone(),
            line,
            problem,
        }
    }
}

impl DescEntry {
    /// A line with nothing but a type and a size.
    pub fn new(line: u32, kind: PartType, size: Size) -> Self {
        Self {
            line,
            logical: false,
            kind,
            size,
            number: None,
            fs: None,
            mount: None,
            label: None,
            options: None,
            name: None,
            boot: false,
            attrs: 0,
        }
    }

    /// The words of `attrs=`; `None` where no attribute is asked for.
    pub fn attribute_words(&self) -> Option<String> {
        (self.attrs != 0).then(|| keys::attribute_words(self.attrs))
    }

    /// Whether the type column says swap space, whichever way it is written.
    pub fn is_swap(&self) -> bool {
        self.kind.known() == Some(KnownType::Swap)
    }
}

impl fmt::Display for Desc {
    /// Writes the desc file that [`Desc::parse`] reads back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(table) = self.table {
            writeln!(
                f,
                "table {table}{}",
                if self.pmbr_boot { " pmbr_boot" } else { "" }
            )?;
        }
        self.entries.iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

impl fmt::Display for DescEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let logical = if self.logical { "logical " } else { "" };
        write!(f, "{logical}{} {}", self.kind, self.size)?;
        let values = [
            ("fs", self.fs.map(|fs| fs.to_string())),
            ("mount", self.mount.clone()),
            ("label", self.label.clone()),
            ("options", self.options.clone()),
            ("name", self.name.clone()),
            ("number", self.number.map(|number| number.to_string())),
            ("attrs", self.attribute_words()),
        ];
        for (key, value) in values {
            if let Some(value) = value {
                write!(f, " {key}={}", words::quote(&value))?;
            }
        }
        if self.boot { f.write_str(" boot") } else { Ok(()) }
    }
}
