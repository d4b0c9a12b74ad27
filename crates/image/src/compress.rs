//! When blocks are compressed.

/// Whether blocks are compressed (zstd level 1, each block alone).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compress {
    /// Never.
    Never,
    /// While the consumer of the blocks is slower than compression and there is processor time to spare.
    #[default]
    Auto,
    /// Every block that becomes smaller.
    Always,
}
