//! Names of block devices, file systems and volumes, in any spelling of a configuration, and their meaning in
//! the clone: one model for every file that is read.
//!
//! A name is the kernel's (`/dev/sda2`), a link of udev's (`/dev/disk/by-…`), a tag (`UUID=…`), or a volume's
//! (`/dev/mapper/vg-home`, `/dev/vg/home`). All these names were written for the golden node. Each has one
//! `Meaning`: the thing that the clone has in its stead, or `Meaning::Gone`. A kernel name that was not
//! cloned is gone even if the node has a device of that name, because that would be another disk.
//!
//! - `spelling`: forms of names, quotes and escapes
//! - `text`: lines of files that may not be UTF-8
//! - `words`: kernel command lines
//! - `options`: mount options
//! - `crypttab`, `layers`, `tabs`: files that open and assemble volumes
//! - `units`, `unit_names`: systemd units
//! - [`sweep`]: the last search for names of the golden node

pub(crate) mod crypttab;
pub(crate) mod ids;
mod known;
pub(crate) mod layers;
pub(crate) mod options;
pub(crate) mod spelling;
pub mod sweep;
pub(crate) mod tabs;
pub(crate) mod text;
pub(crate) mod unit_names;
pub(crate) mod units;
pub(crate) mod words;

pub(crate) use known::{Manner, Meaning, Names};

use crate::error::PostError;
use crate::facts::Facts;
use crate::files::Files;
use crate::kernels;

/// Reads the names of a clone from its facts, and from its crypttab the volumes that it opens by itself.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn read<'a>(files: &dyn Files, facts: &'a Facts) -> Result<Names<'a>, PostError> {
    let names = Names::new(facts, kernels::has_initramfs(files));
    let opened = tabs::opened(files, &names)?;
    Ok(names.opening(opened))
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
