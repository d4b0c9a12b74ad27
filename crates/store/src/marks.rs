//! The marks of prune: packs that are to go, each with the time of its mark.

use std::collections::{BTreeMap, HashSet};

use crate::error::{Result, StoreError};
use crate::index::Index;
use crate::store::Store;

const PACKS: &str = "packs/";
const DOOMED: &str = "doomed/";

/// Returns the names of the marked packs.
pub(crate) fn packs(store: &Store) -> Result<HashSet<String>> {
    let list = store
        .backend()
        .list(&format!("{DOOMED}{}-", store.key().name()))?;
    Ok(list
        .into_iter()
        .map(|object| object.name.replacen(DOOMED, PACKS, 1))
        .collect())
}

impl Store {
    /// Reads the whole index; of a chunk in two packs, it has the place without a mark.
    pub(crate) fn index(&self) -> Result<Index> {
        self.index_beside(&packs(self)?)
    }
}

/// Returns the marked packs, and when each was marked in seconds since 1970.
pub(crate) fn times(store: &Store) -> Result<BTreeMap<String, u64>> {
    let mut times = BTreeMap::new();
    for pack in packs(store)? {
        let bytes = match store.backend().get(&mark(&pack), 0..8) {
            Err(StoreError::Missing(_)) => continue,
            got => got?,
        };
        let time = bytes
            .try_into()
            .map_err(|_| StoreError::damaged(&mark(&pack), "it has a wrong length"))?;
        times.insert(pack, u64::from_le_bytes(time));
    }
    Ok(times)
}

/// Marks a pack.
pub(crate) fn set(store: &Store, pack: &str, now: u64) -> Result<()> {
    store.backend().put(&mark(pack), &now.to_le_bytes())
}

/// Takes the mark off a pack.
pub(crate) fn clear(store: &Store, pack: &str) -> Result<()> {
    store.backend().delete(&mark(pack))
}

fn mark(pack: &str) -> String {
    pack.replacen(PACKS, DOOMED, 1)
}
