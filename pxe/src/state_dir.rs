//! The state directory, for data that outlives a restart. It may also hold a server's key and join codes, so
//! only its owner may read it.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// Creates the directory with mode 0700, unless it exists.
pub(crate) fn make(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}
