//! Golden tree → stream of blocks → restored tree; raw partitions likewise.
//!
//! What: reads directory trees (or a partition) into blocks of at most 1 MiB, each decodable on its own, and makes
//! the same tree again from such blocks, beneath a target directory and nowhere else.
//! What not: no network, no partitions, no mkfs, no mounts; whoever carries the blocks keeps their order and
//! boundaries and proves that they are unchanged.
//! Specification: `docs/image-format.md`.

pub mod raw;
pub mod tree;

mod block;
mod compress;
mod digest;
mod error;
mod fd_budget;
mod hashing;
mod meta;
mod pipeline;
mod problem;
mod progress;
mod record;
mod warning;

pub use compress::Compress;
pub use digest::TreeDigest;
pub use error::{RestoreError, SendError};
pub use problem::{Problem, ProblemKind, Problems};
pub use progress::Progress;
pub use warning::{Warning, WarningKind};

/// A block is never longer than this on the wire, header included, in bytes (the transport's `MAX_BLOCK`).
pub const MAX_BLOCK_BYTES: usize = 1024 * 1024;
