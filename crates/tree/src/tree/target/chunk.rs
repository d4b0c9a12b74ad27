//! The work that the dispatcher gives to a writer: one block, and the tasks for its parts.

use std::ops::Range;
use std::sync::Arc;

use super::dir::HeldDir;
use super::file::BigFile;
use super::links::Group;
use crate::block::OpenBlock;

/// Work on one block.
pub(super) struct Chunk<B> {
    pub(super) block: Arc<OpenBlock<B>>,
    pub(super) items: Vec<Item>,
}

/// Work on a part of a block, `at` its records.
pub(super) enum Item {
    /// Consecutive files, links and devices of one directory, each with one name.
    Entries { dir: HeldDir, at: Range<usize> },
    /// One entry that has more names; they wait for it.
    First {
        dir: HeldDir,
        at: Range<usize>,
        group: Arc<Group>,
    },
    /// One more name.
    Link {
        dir: HeldDir,
        at: Range<usize>,
        group: Arc<Group>,
    },
    /// Content of a large file: `at` is the offset's encoding and the bytes.
    Extent { file: Arc<BigFile>, at: Range<usize> },
}
