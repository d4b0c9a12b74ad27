//! Entries that could not be read as they were, by name: reported at the end, never a reason to break the
//! stream.

use std::fmt;
use std::path::{Path, PathBuf};

/// Most problems that are kept by name. Others are only counted. A whole tree that cannot be read must not
/// grow the sender's memory, and no operator reads more lines than this.
const MAX_KEPT: usize = 1000;

/// One entry of the golden tree that did not travel as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The path as seen on the golden node.
    pub path: PathBuf,
    /// The kind of the problem.
    pub kind: ProblemKind,
}

/// The reason for which an entry did not travel as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProblemKind {
    /// Its size or one of its times changed between the first and the last look, each time that it was read;
    /// what arrived may mix both.
    Changed,
    /// It was there when the directory was listed and gone when it was to be read.
    Vanished,
    /// It, or a part of it, could not be read; the text is the system's reason.
    Unreadable(String),
    /// It travelled without something that the stream cannot carry; the text says what.
    Incomplete(String),
    /// Another file is mounted over it; only its own file system travels.
    MountedOver,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.kind {
            ProblemKind::Changed => write!(f, "{path}: changed while being read"),
            ProblemKind::Vanished => write!(f, "{path}: vanished before it was read"),
            ProblemKind::Unreadable(reason) => write!(f, "{path}: cannot be read: {reason}"),
            ProblemKind::Incomplete(what) => write!(f, "{path}: sent without {what}"),
            ProblemKind::MountedOver => write!(f, "{path}: hidden by a mount, not sent"),
        }
    }
}

impl ProblemKind {
    /// True if the clones lack something that the golden node has and could not give.
    #[must_use]
    pub const fn is_unreadable(&self) -> bool {
        matches!(self, Self::Unreadable(_))
    }
}

/// The problems of one stream: the first ones by name, the others counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    kept: Vec<Problem>,
    count: u64,
    unreadable: u64,
}

impl Problems {
    /// Returns the first problems, in the order in which they were met.
    #[must_use]
    pub fn kept(&self) -> &[Problem] {
        &self.kept
    }

    /// Returns the number of problems, including those not kept by name.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Returns the number of problems with files that could not be read.
    #[must_use]
    pub const fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// True if everything travelled as it was.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn add(&mut self, path: &Path, kind: ProblemKind) {
        self.count += 1;
        let is_unreadable = kind.is_unreadable();
        self.unreadable += u64::from(is_unreadable);
        // A file that could not be read is named however many others only changed.
        let room = if is_unreadable { 2 * MAX_KEPT } else { MAX_KEPT };
        if self.kept.len() < room {
            self.kept.push(Problem {
                path: path.to_path_buf(),
                kind,
            });
        }
    }
}
