//! Stored images: versions of golden trees in packs of sealed chunks, in any place that keeps whole objects.
//!
//! A save takes the blocks of a tree stream; a version gives the same blocks back, byte for byte. The crate knows no network
//! of nodes and no disk of a clone. Specification: `docs/store-format.md`.
//!
//! ```
//! use ka_store::{Directory, OperatorKey, Store, Totals};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let backend = Directory::create(dir.path())?;
//! let store = Store::create(Box::new(backend), OperatorKey::random()?)?;
//!
//! // A block of a tree stream without records.
//! let block = [1, 0, 0, 0, 0, 0, 0, 0];
//! let mut saver = store.save("lab", "/")?;
//! saver.block(&block)?;
//! let version = saver.finish(Totals::default())?;
//!
//! let mut reader = store.read(&version)?;
//! assert_eq!(reader.next_block()?.as_deref(), Some(&block[..]));
//! assert_eq!(reader.next_block()?, None);
//! # Ok(())
//! # }
//! ```

mod backend;
mod chunk;
mod copy;
mod cut;
mod directory;
mod error;
mod index;
mod keys;
mod marks;
mod prune;
mod reader;
mod recipe;
mod saver;
mod store;
mod verify;
mod version;

pub use backend::{Backend, Object};
pub use directory::Directory;
pub use error::{Result, StoreError};
pub use keys::OperatorKey;
pub use prune::Pruned;
pub use reader::Reader;
pub use saver::Saver;
pub use store::Store;
pub use verify::Verified;
pub use version::{Totals, Version};
