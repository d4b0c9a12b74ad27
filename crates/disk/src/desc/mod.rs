//! The desc file: one partition a line, as the original KA method wrote it, and what was added.
//!
//! Parsing here is pure and knows no disk: what a line becomes on a given disk is decided by
//! [`crate::layout`]. The grammar is told in `docs/desc.md`.

mod error;
mod size;

use serde::{Deserialize, Serialize};

pub use error::{DescError, Problem};
pub use size::{Percent, Size};

use crate::table::{PartType, TableKind};

/// A desc file, checked as far as that is possible without a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desc {
    /// The name of the file it was read from, for error messages of a later stage.
    pub origin: String,
    /// What the `table` line asks for; `None` without such a line.
    pub table: Option<TableKind>,
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
    pub fs: Option<String>,
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
        let _ = text;
        Err(DescError { origin: origin.to_owned(), line: 1, problem: Problem::UnknownType(String::new()) })
    }

    /// Each line with the number its partition will have, in the order of the lines.
    ///
    /// Numbers do not depend on the disk or the kind of table: logical partitions count from 5 also
    /// where they become plain GPT partitions.
    pub fn numbered(&self) -> Vec<(u32, &DescEntry)> {
        Vec::new()
    }
}
