//! The index: the place of each chunk.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::cut::LONGEST;
use crate::error::{Result, StoreError};
use crate::keys::{ChunkId, DataKey, SEAL_BYTES};

/// No index object is longer, in bytes: the chunks of about 400 GB.
const MOST_BYTES: u64 = 512 << 20;
const KIND: &str = "index";
/// A sealed chunk is no longer; its text begins with one byte that says whether it is compressed.
const MOST_SEALED: usize = LONGEST + SEAL_BYTES + 1;

/// A chunk in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) id: ChunkId,
    pub(crate) offset: u32,
    pub(crate) sealed: u32,
}

/// The chunks of packs, by the names of the packs.
pub(crate) type Packs = BTreeMap<String, Vec<Stored>>;

/// The place of a chunk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) pack: &'a str,
    pub(crate) offset: u32,
    pub(crate) sealed: u32,
}

/// The chunks that a store has.
#[derive(Debug, Default)]
pub(crate) struct Index {
    packs: Vec<String>,
    chunks: HashMap<ChunkId, (u32, u32, u32)>,
}

impl Index {
    /// Reads the index of a store without the packs that are `marked`.
    pub(crate) fn trusted(backend: &dyn Backend, key: &DataKey, marked: &HashSet<String>) -> Result<Self> {
        let mut index = Self::default();
        for (name, size) in objects(backend, key)? {
            index.add(&read(backend, key, &name, size)?, |pack| !marked.contains(pack));
        }
        Ok(index)
    }

    /// Reads the whole index of a store; of a chunk in two packs, it has the place that is not `marked`.
    pub(crate) fn load(backend: &dyn Backend, key: &DataKey, marked: &HashSet<String>) -> Result<Self> {
        let mut index = Self::trusted(backend, key, marked)?;
        if !marked.is_empty() {
            for (name, size) in objects(backend, key)? {
                index.add(&read(backend, key, &name, size)?, |pack| marked.contains(pack));
            }
        }
        Ok(index)
    }

    fn add(&mut self, packs: &Packs, wanted: impl Fn(&str) -> bool) {
        for (pack, chunks) in packs.iter().filter(|(pack, _)| wanted(pack)) {
            let number = u32::try_from(self.packs.len()).unwrap_or(u32::MAX);
            self.packs.push(pack.clone());
            for chunk in chunks {
                self.chunks
                    .entry(chunk.id)
                    .or_insert((number, chunk.offset, chunk.sealed));
            }
        }
    }

    pub(crate) fn has(&self, id: &ChunkId) -> bool {
        self.chunks.contains_key(id)
    }

    pub(crate) fn find(&self, id: &ChunkId) -> Option<Place<'_>> {
        let (pack, offset, sealed) = *self.chunks.get(id)?;
        let pack = self.packs.get(pack as usize)?;
        Some(Place { pack, offset, sealed })
    }
}

/// Returns names and sizes of the index objects.
pub(crate) fn objects(backend: &dyn Backend, key: &DataKey) -> Result<Vec<(String, u64)>> {
    let list = backend.list(&format!("{KIND}/{}-", key.name()))?;
    Ok(list
        .into_iter()
        .map(|object| (object.name, object.size))
        .collect())
}

/// Reads one index object.
pub(crate) fn read(backend: &dyn Backend, key: &DataKey, name: &str, size: u64) -> Result<Packs> {
    if size > MOST_BYTES {
        return Err(StoreError::damaged(name, "it is too long"));
    }
    let sealed = backend.get(name, 0..size)?;
    let text = key
        .open_object(KIND, &sealed)
        .ok_or_else(|| StoreError::damaged(name, "its bytes were changed"))?;
    decode(&text).map_err(|why| StoreError::damaged(name, why))
}

/// Writes an index object and returns its name.
pub(crate) fn write(backend: &dyn Backend, key: &DataKey, packs: &Packs) -> Result<String> {
    let text = postcard::to_stdvec(packs).map_err(|error| StoreError::Refused(error.to_string()))?;
    let sealed = key.seal_object(KIND, text)?;
    let name = format!("{KIND}/{}-{}", key.name(), key.hidden(&sealed));
    backend.put(&name, &sealed)?;
    Ok(name)
}

fn decode(text: &[u8]) -> std::result::Result<Packs, &'static str> {
    let (packs, rest): (Packs, _) = postcard::take_from_bytes(text).map_err(|_| "it cannot be read")?;
    let sane = |chunk: &Stored| {
        chunk.sealed as usize <= MOST_SEALED && chunk.offset.checked_add(chunk.sealed).is_some()
    };
    if !rest.is_empty() || !packs.values().flatten().all(sane) {
        return Err("it says what cannot be");
    }
    Ok(packs)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_index_comes_back(ids in vec(any::<[u8; 32]>(), 0..20)) {
            let chunks = ids.iter().map(|id| Stored { id: *id, offset: 5, sealed: 7 }).collect();
            let packs = Packs::from([("packs/a".to_owned(), chunks)]);
            let text = postcard::to_stdvec(&packs).unwrap();
            prop_assert_eq!(decode(&text).unwrap(), packs);
            (0..text.len()).for_each(|len| assert!(decode(&text[..len]).is_err()));
        }

        #[test]
        fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }
    }
}
