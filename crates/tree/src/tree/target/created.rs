//! The way in which an entry was created.

/// The way in which an entry was created, which says what is still to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Created {
    /// It existed before.
    Before,
    /// Private to this process; owner and mode are still to be set.
    Private,
    /// With its final owner and these final permissions.
    Final(u32),
}

impl Created {
    /// The permissions to create it with; `private` where nobody else may reach it yet.
    pub(super) const fn mode(self, private: u32) -> u32 {
        match self {
            Self::Before | Self::Private => private,
            Self::Final(mode) => mode,
        }
    }
}
