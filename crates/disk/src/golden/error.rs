//! Errors of a survey: reasons why the golden node cannot be cloned as the options ask.

use std::path::PathBuf;

use ka_host::HostError;

use crate::desc::DescError;
use crate::fs::FsError;

/// An error of the survey. Each is one line: what is wrong, what to do.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The golden root is not a system that can be read.
    #[error("{}: {problem}", root.display())]
    Root {
        /// Directory given with `--root`.
        root: PathBuf,
        /// Fault of that directory.
        problem: String,
    },
    /// A line of the golden fstab cannot be followed.
    #[error("{}:{line}: {problem}", fstab.display())]
    Fstab {
        /// Path of the file.
        fstab: PathBuf,
        /// Line number, from 1.
        line: u32,
        /// Mistake and remedy.
        problem: String,
    },
    /// A line of a desc file does not match the golden node.
    #[error("{origin}:{line}: {problem}")]
    Desc {
        /// Name of the desc file.
        origin: String,
        /// Line number, from 1.
        line: u32,
        /// Mistake and remedy.
        problem: String,
    },
    /// Something of the golden node has no partition in the clone.
    #[error("{what} has no place in the clone: {remedy}")]
    NoPlace {
        /// The mount point or partition, with its device.
        what: String,
        /// The option or desc line that gives it a place.
        remedy: String,
    },
    /// Mount points have no partition in the clone; several lines, the last ones to be pasted.
    #[error("{what} {advice}")]
    Unplaced {
        /// The mount points with their devices.
        what: String,
        /// The desc lines that give them a place.
        advice: String,
    },
    /// An option cannot be followed.
    #[error("{option}: {problem}")]
    Option {
        /// The option as typed: `-D sda9`.
        option: String,
        /// Mistake and remedy.
        problem: String,
    },
    /// A golden disk cannot be used.
    #[error("{}: {problem}", device.display())]
    Device {
        /// Device node.
        device: PathBuf,
        /// Fault and remedy.
        problem: String,
    },
    /// blkid, dumpe2fs or another tool failed.
    #[error(transparent)]
    Tool(#[from] FsError),
    /// A system call failed.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl SurveyError {
    pub(super) fn option(option: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Option {
            option: option.into(),
            problem: problem.into(),
        }
    }
}

impl From<DescError> for SurveyError {
    fn from(error: DescError) -> Self {
        Self::Desc {
            problem: error.problem.to_string(),
            origin: error.origin,
            line: error.line,
        }
    }
}
