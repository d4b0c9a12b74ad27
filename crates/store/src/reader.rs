//! Reading a version: the blocks that were saved, byte for byte.

use std::collections::VecDeque;

use crate::error::{Result, StoreError};
use crate::index::Index;
use crate::keys::ChunkId;
use crate::recipe::{self, Part};
use crate::store::Store;
use crate::version::Version;

/// The blocks of a version, one after the other.
pub struct Reader<'a> {
    store: &'a Store,
    index: Index,
    recipe: Recipe,
}

impl Store {
    /// Opens a version.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn read(&self, version: &Version) -> Result<Reader<'_>> {
        Ok(Reader {
            store: self,
            index: self.index()?,
            recipe: Recipe::new(version),
        })
    }
}

impl Reader<'_> {
    /// Returns the next block, `None` after the last.
    ///
    /// # Errors
    /// A chunk is missing or damaged.
    pub fn next_block(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(parts) = self.recipe.next(self.store, &self.index)? else {
            return Ok(None);
        };
        let mut block = Vec::new();
        for part in parts {
            match part {
                Part::Bytes(bytes) => block.extend_from_slice(&bytes),
                Part::Chunk(id, len) => {
                    let chunk = fetch(self.store, &self.index, &self.recipe.of, &id)?;
                    if chunk.len() != len as usize {
                        return Err(StoreError::damaged(&self.recipe.of, "a chunk has another length"));
                    }
                    block.extend_from_slice(&chunk);
                }
            }
        }
        Ok(Some(block))
    }
}

/// The recipe of a version, block by block.
pub(crate) struct Recipe {
    of: String,
    ahead: VecDeque<ChunkId>,
    text: Vec<u8>,
    at: usize,
}

impl Recipe {
    pub(crate) fn new(version: &Version) -> Self {
        Self {
            of: format!("{}@{}", version.image(), version.label()),
            ahead: version.recipe.iter().copied().collect(),
            text: Vec::new(),
            at: 0,
        }
    }

    pub(crate) fn next(&mut self, store: &Store, index: &Index) -> Result<Option<Vec<Part>>> {
        loop {
            let mut rest = self.text.get(self.at..).unwrap_or(&[]);
            let before = rest.len();
            let taken = recipe::take(&mut rest).map_err(|why| StoreError::damaged(&self.of, why))?;
            if let Some(parts) = taken {
                self.at += before - rest.len();
                return Ok(Some(parts));
            }
            let Some(id) = self.ahead.pop_front() else {
                return match before {
                    0 => Ok(None),
                    _ => Err(StoreError::damaged(&self.of, "its recipe is cut short")),
                };
            };
            self.text.drain(..self.at);
            self.at = 0;
            self.text.extend(fetch(store, index, &self.of, &id)?);
        }
    }
}

fn fetch(store: &Store, index: &Index, of: &str, id: &ChunkId) -> Result<Vec<u8>> {
    let place = index
        .find(id)
        .ok_or_else(|| StoreError::Incomplete(of.to_owned()))?;
    store.chunk(id, place)
}
