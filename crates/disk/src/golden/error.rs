//! Why the golden node cannot be cloned as it was asked for.

use std::path::PathBuf;

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
}
