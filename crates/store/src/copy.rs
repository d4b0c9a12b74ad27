//! Copying a version into another store, whatever the keys of both.

use crate::error::Result;
use crate::store::Store;
use crate::version::Version;

impl Store {
    /// Copies a version into another store, where it becomes the newest of its image.
    ///
    /// # Errors
    /// A chunk cannot be read here, or the other store refuses: then it has no new version.
    pub fn copy(&self, version: &Version, into: &Self) -> Result<Version> {
        let mut reader = self.read(version)?;
        let mut saver = into.save(version.image(), version.root())?;
        while let Some(block) = reader.next_block()? {
            saver.block(&block)?;
        }
        saver.finish(version.totals())
    }
}
