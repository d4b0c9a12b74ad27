//! The desc file: one partition a line, in the format of the original KA method with additions.
//!
//! The parser is pure and knows no disk: [`crate::layout`] decides how a line becomes a partition of a given
//! disk. See `docs/desc.md` for the grammar.

mod check;
mod error;
mod from_table;
mod keys;
mod meant;
mod parse;
mod size;
#[cfg(test)]
mod tests;
mod words;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use error::{DescError, Problem};
pub use size::{MIB, Percent, Size, mib_text};

pub(crate) use keys::LEGACY_BOOT_BIT;

use crate::fs_type::FsType;
use crate::table::{KnownType, PartType, TableKind, USUAL_ENTRIES};

/// The most partitions that a desc file may ask for: a GPT of the usual size has this many entries.
pub const MAX_PARTITIONS: u32 = USUAL_ENTRIES;

/// UTF-16 units in a GPT partition name (UEFI 2.10 table 5.6).
pub const MAX_NAME_UNITS: usize = 36;

/// Size in bytes above which a disk gets a GPT unless the desc file says otherwise. An MBR with 512-byte
/// sectors ends there; with larger sectors it reaches further, but firmware and boot loaders have faults
/// beyond it.
pub const GPT_ABOVE_BYTES: u64 = 2 << 40;

/// A desc file, checked as far as that is possible without a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desc {
    /// Name of the file it was read from, for error messages of later stages.
    pub origin: String,
    /// Kind of table that the `table` line asks for; `None` without such a line.
    pub table: Option<TableKind>,
    /// `table gpt pmbr_boot`: the protective entry in front of the GPT is active, for BIOSes that start
    /// nothing else.
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
    /// True if the line begins with `logical`.
    pub logical: bool,
    /// Type of the partition.
    pub kind: PartType,
    /// Size of the partition.
    pub size: Size,
    /// `number=`: number of the partition, if it is not to be the lowest free one.
    pub number: Option<u32>,
    /// `fs=`: type of the file system, if it is to differ from the golden node's.
    pub fs: Option<FsType>,
    /// `mount=`: the golden mount point whose files come to this partition.
    pub mount: Option<String>,
    /// `label=`: label of the file system, instead of the golden one's.
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

    /// Reads the bytes of a desc file, which need not be valid UTF-8; `origin` is its name in error messages.
    ///
    /// # Errors
    /// [`DescError`] for the first line that is wrong.
    pub fn parse_bytes(bytes: &[u8], origin: &str) -> Result<Self, DescError> {
        parse::parse_bytes(bytes, origin)
    }

    /// Returns each line with the number of its partition, in the order of the lines.
    ///
    /// Numbers do not depend on the disk or the kind of table. Logical partitions count from 5 even if they
    /// become plain GPT partitions, and no other partition gets the number of the extended one.
    pub fn numbered(&self) -> Vec<(u32, &DescEntry)> {
        check::numbered(&self.entries)
    }

    /// Checks the lines together, and against the limits of a `kind` table.
    ///
    /// # Errors
    /// [`DescError`] for the first line that is impossible there.
    pub fn check_for(&self, kind: TableKind) -> Result<(), DescError> {
        let checked = check::together(&self.entries).and_then(|()| check::on_table(self, kind));
        checked.map_err(|(line, problem)| self.error(line, problem))
    }

    /// Returns the kind of table that this file leads to on a disk of `disk_bytes`, if the golden drive's is
    /// `golden`.
    pub fn table_for(&self, golden: TableKind, disk_bytes: u64) -> TableKind {
        let default = if disk_bytes > GPT_ABOVE_BYTES {
            TableKind::Gpt
        } else {
            golden
        };
        self.table.unwrap_or(default)
    }

    /// Makes an error at one of this file's lines.
    pub fn error(&self, line: u32, problem: Problem) -> DescError {
        DescError {
            origin: self.origin.clone(),
            line,
            problem,
        }
    }
}

impl DescEntry {
    /// Makes a line with nothing but a type and a size.
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

    /// Returns the words of `attrs=`; `None` if no attribute is set.
    pub fn attribute_words(&self) -> Option<String> {
        (self.attrs != 0).then(|| keys::attribute_words(self.attrs))
    }

    /// True if the type column means swap space, in any spelling.
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
