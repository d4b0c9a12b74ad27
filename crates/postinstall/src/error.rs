//! The failures of planning and of carrying a plan out.

use std::io;

use ka_host::run::RunError;

/// An action that failed.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// A file of the clone could not be read or changed.
    #[error("{doing} the clone's {path}: {source}")]
    File {
        /// "reading", "writing"…
        doing: &'static str,
        /// The file.
        path: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A program failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A mount for the programs could not be made or undone.
    #[error(transparent)]
    Host(#[from] ka_host::HostError),
    /// A line of fstab has nothing to name.
    #[error(transparent)]
    Fstab(#[from] crate::fstab::FstabError),
    /// The kernel modules of the clone could not be read.
    #[error(transparent)]
    Modules(#[from] ka_kmod::KmodError),
    /// Something is not as it has to be.
    #[error("{0}")]
    Wrong(String),
}

impl PostError {
    pub(crate) fn reading(path: &str) -> impl FnOnce(io::Error) -> Self {
        Self::file("reading", path)
    }

    pub(crate) fn file(doing: &'static str, path: &str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }
}
