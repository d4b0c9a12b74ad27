//! The errors of a store, each one line for the operator.

use std::io;

/// A store cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused.
    #[error("{what}: {source}")]
    Io {
        /// The operation and its path.
        what: String,
        /// The reason.
        source: io::Error,
    },
    /// An object is not there.
    #[error("the store has no {0}")]
    Missing(String),
    /// An object is not what was written.
    #[error("{object} is damaged: {why}")]
    Damaged {
        /// The name of the object.
        object: String,
        /// The part that is wrong.
        why: String,
    },
    /// A version needs chunks that no index knows.
    #[error("a chunk of {0} is in no pack of this store")]
    Incomplete(String),
    /// The request cannot be met; the text says why.
    #[error("{0}")]
    Refused(String),
}

impl StoreError {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            what: what.into(),
            source,
        }
    }

    pub(crate) fn damaged(object: &str, why: impl Into<String>) -> Self {
        Self::Damaged {
            object: object.to_owned(),
            why: why.into(),
        }
    }
}

/// The result of what a store does.
pub type Result<T> = std::result::Result<T, StoreError>;
