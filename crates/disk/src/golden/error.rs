//! Why the golden node cannot be cloned as it was asked for.

use std::path::PathBuf;

use ka_host::HostError;

use crate::fs::FsError;

/// A survey that failed. One line each: what is wrong, what to do.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The golden root is not a system that can be read.
    #[error("{}: {problem}", root.display())]
    Root {
        /// What `--root` says.
        root: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A line of the golden fstab cannot be followed.
    #[error("{}:{line}: {problem}", fstab.display())]
    Fstab {
        /// The file.
        fstab: PathBuf,
        /// Its line, from 1.
        line: u32,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A line of a desc file does not go with the golden node.
    #[error("{origin}:{line}: {problem}")]
    Desc {
        /// The desc file.
        origin: String,
        /// Its line, from 1.
        line: u32,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Something of the golden node has no partition in the clone.
    #[error("{what} has no place in the clone: {remedy}")]
    NoPlace {
        /// The mount point or partition, with its device.
        what: String,
        /// What to write where.
        remedy: String,
    },
    /// Mount points have no partition in the clone; several lines, the last ones to be pasted.
    #[error("{what} {advice}")]
    Unplaced {
        /// The mount points with their devices.
        what: String,
        /// What to write where.
        advice: String,
    },
    /// An option cannot be followed.
    #[error("{option}: {problem}")]
    Option {
        /// The option as typed: `-D sda9`.
        option: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A golden disk cannot be used.
    #[error("{}: {problem}", device.display())]
    Device {
        /// Its device node.
        device: PathBuf,
        /// What is wrong and what to do.
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
