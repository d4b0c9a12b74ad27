//! The four operations that a store's place must offer: no rename, no condition, no lock.

use std::ops::Range;

use crate::error::Result;

/// An object of a backend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// `KIND/REST`.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
}

/// A place that keeps whole objects by name.
pub trait Backend: Send + Sync {
    /// Writes an object, whole or not at all; an older one of this name is replaced.
    ///
    /// # Errors
    /// The object is not written.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// Returns exactly these bytes of an object.
    ///
    /// # Errors
    /// The object is not there, or shorter.
    fn get(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>>;

    /// Returns the objects whose names begin with `prefix`, sorted by name.
    ///
    /// # Errors
    /// The backend cannot be read.
    fn list(&self, prefix: &str) -> Result<Vec<Object>>;

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// The object cannot be removed.
    fn delete(&self, name: &str) -> Result<()>;
}
