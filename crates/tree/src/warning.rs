//! Things that a target file system cannot hold: counted by kind with one example, not an error.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The thing that the target could not take.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum WarningKind {
    /// Owner and group.
    Owner,
    /// Mode bits.
    Mode,
    /// The times of an entry.
    Times,
    /// An extended attribute other than those below; the text is its name space (`user`, `trusted`, …).
    Xattr(String),
    /// POSIX ACLs.
    Acl,
    /// An SELinux label.
    SelinuxLabel,
    /// A file flag of `chattr`, by its name.
    Flag(&'static str),
    /// The project id (quota).
    Project,
    /// A symbolic link: left out.
    Symlink,
    /// A device node, fifo or socket: left out.
    Special,
    /// A hard link: made as a copy.
    HardLink,
    /// A name this file system does not allow, or already has in another spelling: left out.
    Name,
    /// A btrfs subvolume: made as a directory.
    Subvolume,
}

impl fmt::Display for WarningKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner => f.write_str("owner"),
            Self::Mode => f.write_str("mode"),
            Self::Times => f.write_str("times"),
            Self::Xattr(space) => write!(f, "{space} attribute"),
            Self::Acl => f.write_str("ACL"),
            Self::SelinuxLabel => f.write_str("SELinux label"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Project => f.write_str("project id"),
            Self::Symlink => f.write_str("symbolic link (left out)"),
            Self::Special => f.write_str("device, fifo or socket (left out)"),
            Self::HardLink => f.write_str("hard link (copied)"),
            Self::Name => f.write_str("name (left out)"),
            Self::Subvolume => f.write_str("subvolume (made a directory)"),
        }
    }
}

/// One kind of warning of one target file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The thing that could not be held.
    pub kind: WarningKind,
    /// The target file system's type (`vfat`), or the magic number in hex when it has no known name.
    pub file_system: String,
    /// The number of entries.
    pub count: u64,
    /// One of them, beneath its target root.
    pub example: PathBuf,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = if self.count == 1 { "entry" } else { "entries" };
        let (kind, fs, count, example) = (&self.kind, &self.file_system, self.count, self.example.display());
        write!(
            f,
            "{kind} not supported by {fs}: {count} {entries}, e.g. {example}"
        )
    }
}

/// So many kinds are kept apart: attribute name spaces come from the stream and must not grow memory.
const MAX_KINDS: usize = 256;

/// Collects warnings from all writers.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    by_kind: Mutex<BTreeMap<(WarningKind, String), (u64, PathBuf)>>,
}

impl Warnings {
    pub(crate) fn add(&self, kind: WarningKind, file_system: &str, path: &Path) {
        let mut kinds = self
            .by_kind
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let full = kinds.len() >= MAX_KINDS;
        let key = (kind, file_system.to_owned());
        if let Some((count, _)) = kinds.get_mut(&key) {
            *count += 1;
        } else if !full {
            kinds.insert(key, (1, path.to_path_buf()));
        }
    }

    pub(crate) fn into_list(self) -> Vec<Warning> {
        let kinds = self
            .by_kind
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        kinds
            .into_iter()
            .map(|((kind, file_system), (count, example))| Warning {
                kind,
                file_system,
                count,
                example,
            })
            .collect()
    }
}
