//! The key of one data link.

use crate::ids::{RunId, StreamId};

/// The key of the link between two named nodes, for one stream of a run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LinkKey {
    key: [u8; 32],
    run: RunId,
    stream: StreamId,
}

impl LinkKey {
    /// Takes the key that came with [`crate::control::OpenStream`] or [`crate::control::Relink`].
    #[must_use]
    pub const fn new(key: [u8; 32], run: RunId, stream: StreamId) -> Self {
        Self { key, run, stream }
    }

    /// Returns the run.
    #[must_use]
    pub const fn run(&self) -> RunId {
        self.run
    }

    /// Returns the stream.
    #[must_use]
    pub const fn stream(&self) -> StreamId {
        self.stream
    }

    /// Returns the key itself, for the message that hands it out.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.key
    }
}

impl std::fmt::Debug for LinkKey {
    /// Writes everything but the key, which must not end up in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LinkKey({} of {})", self.stream, self.run)
    }
}
