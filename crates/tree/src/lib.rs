//! Golden tree → stream of blocks → restored tree; raw partitions likewise.
//!
//! Reads directory trees (or a partition) into blocks of at most 1 MiB, each decodable on its own. Makes the
//! same tree again from such blocks, beneath a target directory and nowhere else. It knows no network, no
//! partitions, no mkfs, no mounts; the carrier of the blocks keeps their order and boundaries and proves that
//! they are unchanged. Specification: `docs/tree-format.md`.
//!
//! A tree goes into blocks, and the blocks become the same tree elsewhere:
//!
//! ```
//! use std::collections::VecDeque;
//! use std::fs;
//!
//! use ka_tree::Progress;
//! use ka_tree::tree::{self, RestoreOptions, SendOptions, TreeSource, TreeTarget};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (golden, clone) = (tempfile::tempdir()?, tempfile::tempdir()?);
//! fs::create_dir(golden.path().join("etc"))?;
//! fs::write(golden.path().join("etc/motd"), "hello\n")?;
//!
//! // The golden node: one source for each file system.
//! let source = TreeSource { mount_id: 1, root: golden.path().into() };
//! let mut stream = VecDeque::new();
//! let emit = |block| {
//!     stream.push_back(block);
//!     Ok(())
//! };
//! let sent = tree::send(&[source], &SendOptions::default(), emit, &Progress::new())?;
//! assert_eq!(sent.totals.files, 1);
//!
//! // A clone: the target of each source, by the same number.
//! let target = TreeTarget { mount_id: 1, root: clone.path().into() };
//! let next = || Ok(stream.pop_front());
//! let restored = tree::restore(&[target], &RestoreOptions::default(), next, &Progress::new())?;
//! assert_eq!(restored.totals, sent.totals);
//! assert_eq!(fs::read_to_string(clone.path().join("etc/motd"))?, "hello\n");
//! # Ok(())
//! # }
//! ```

pub mod raw;
pub mod tree;

mod block;
mod compress;
mod contents;
mod digest;
mod error;
mod fd_budget;
mod hashing;
mod meta;
mod pipeline;
mod problem;
mod progress;
mod record;
mod sync;
mod warning;

pub use compress::Compress;
pub use contents::{NoBlock, contents};
pub use digest::TreeDigest;
pub use error::{RestoreError, SendError};
pub use problem::{Problem, ProblemKind, Problems};
pub use progress::Progress;
pub use warning::{Warning, WarningKind};

/// A block is never longer than this on the wire, header included, in bytes (the transport's `MAX_BLOCK`).
pub const MAX_BLOCK_BYTES: usize = 1024 * 1024;
