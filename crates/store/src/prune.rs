//! Prune in two phases: mark the packs that no version needs; a grace later, look again and delete.

use std::collections::{BTreeSet, HashSet};

use crate::error::{Result, StoreError};
use crate::index::{self, Index};
use crate::marks;
use crate::reader::Recipe;
use crate::recipe::Part;
use crate::store::Store;

/// The result of a prune.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Packs that were marked in this prune.
    pub marked: u64,
    /// Packs that are marked and wait for their grace to end, those marked in this prune included.
    pub waiting: u64,
    /// Packs that were deleted.
    pub deleted: u64,
    /// Their bytes.
    pub freed: u64,
}

impl Store {
    /// Marks what no version needs, and deletes what was marked `grace` seconds before `now` and still is not needed.
    ///
    /// A save that runs at the same time loses nothing as long as `grace` is more than 20 hours.
    ///
    /// # Errors
    /// The store cannot be read, or a version misses a chunk: then nothing is deleted.
    pub fn prune(&self, now: u64, grace: u64) -> Result<Pruned> {
        let marked = marks::times(self)?;
        let packs = self.backend().list(&format!("packs/{}-", self.key().name()))?;
        let needed = self.needed_packs(&marked.keys().cloned().collect())?;
        let mut done = Pruned::default();
        let mut going = BTreeSet::new();
        for (pack, time) in &marked {
            if needed.contains(pack) {
                marks::clear(self, pack)?;
            } else if now.checked_sub(*time).is_some_and(|age| age >= grace) {
                going.insert(pack.clone());
            } else {
                done.waiting += 1;
            }
        }
        for pack in &packs {
            if !needed.contains(&pack.name) && !marked.contains_key(&pack.name) {
                marks::set(self, &pack.name, now)?;
                done.marked += 1;
                done.waiting += 1;
            }
        }
        self.forget(&going)?;
        for pack in &going {
            self.backend().delete(pack)?;
            marks::clear(self, pack)?;
            done.deleted += 1;
            done.freed += packs
                .iter()
                .find(|object| object.name == *pack)
                .map_or(0, |object| object.size);
        }
        Ok(done)
    }

    /// Takes packs out of the index, so that no save finds a chunk in them.
    fn forget(&self, going: &BTreeSet<String>) -> Result<()> {
        for (name, size) in index::objects(self.backend(), self.key())? {
            let mut packs = index::read(self.backend(), self.key(), &name, size)?;
            let before = packs.len();
            packs.retain(|pack, _| !going.contains(pack));
            if packs.len() == before {
                continue;
            }
            if !packs.is_empty() {
                index::write(self.backend(), self.key(), &packs)?;
            }
            self.backend().delete(&name)?;
        }
        Ok(())
    }

    /// Returns the packs that versions need; a chunk in two packs needs the one without a mark.
    fn needed_packs(&self, marked: &HashSet<String>) -> Result<HashSet<String>> {
        let index = self.index_beside(marked)?;
        let mut needed = HashSet::new();
        let mut seen = HashSet::new();
        for version in self.versions()? {
            let of = format!("{}@{}", version.image(), version.label());
            let mut need = |id: &[u8; 32], index: &Index| {
                if seen.insert(*id) {
                    let place = index.find(id).ok_or_else(|| StoreError::Incomplete(of.clone()))?;
                    needed.insert(place.pack.to_owned());
                }
                Ok::<_, StoreError>(())
            };
            version.recipe.iter().try_for_each(|id| need(id, &index))?;
            let mut recipe = Recipe::new(&version);
            while let Some(parts) = recipe.next(self, &index)? {
                for part in &parts {
                    if let Part::Chunk(id, _) = part {
                        need(id, &index)?;
                    }
                }
            }
        }
        Ok(needed)
    }
}
