//! Verification: every chunk that versions need is read and compared with its name.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::error::{Result, StoreError};
use crate::index::Index;
use crate::keys::ChunkId;
use crate::reader::Recipe;
use crate::recipe::Part;
use crate::store::Store;
use crate::version::Version;

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Chunks that were read, each once.
    pub chunks: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// The damage that was found, and the versions (`NAME@VERSION`) that cannot be sent for it.
    pub faults: BTreeMap<String, BTreeSet<String>>,
}

impl Store {
    /// Reads everything that `versions` need.
    ///
    /// # Errors
    /// The index cannot be read. Damage to packs is in [`Verified::faults`].
    pub fn verify(&self, versions: &[Version]) -> Result<Verified> {
        let mut run = Run {
            store: self,
            index: self.index()?,
            seen: HashMap::new(),
            result: Verified::default(),
        };
        for version in versions {
            run.version(version)?;
        }
        Ok(run.result)
    }
}

struct Run<'a> {
    store: &'a Store,
    index: Index,
    /// The chunks that were read, with what is wrong with each.
    seen: HashMap<ChunkId, Option<String>>,
    result: Verified,
}

impl Run<'_> {
    fn version(&mut self, version: &Version) -> Result<()> {
        let of = format!("{}@{}", version.image(), version.label());
        let mut whole = true;
        for id in &version.recipe {
            whole &= self.chunk(id, &of)?;
        }
        if !whole {
            return Ok(());
        }
        let mut recipe = Recipe::new(version);
        loop {
            match recipe.next(self.store, &self.index) {
                Ok(None) => return Ok(()),
                Ok(Some(parts)) => {
                    for part in &parts {
                        if let Part::Chunk(id, _) = part {
                            self.chunk(id, &of)?;
                        }
                    }
                }
                Err(error) => {
                    self.fault(fault(error)?, &of);
                    return Ok(());
                }
            }
        }
    }

    /// Reads a chunk once, and says whether it is good.
    fn chunk(&mut self, id: &ChunkId, of: &str) -> Result<bool> {
        if !self.seen.contains_key(id) {
            let wrong = match self.index.find(id).map(|place| self.store.chunk(id, place)) {
                None => Some("a chunk is in no pack".to_owned()),
                Some(Err(error)) => Some(fault(error)?),
                Some(Ok(content)) => {
                    self.result.chunks += 1;
                    self.result.bytes += content.len() as u64;
                    None
                }
            };
            self.seen.insert(*id, wrong);
        }
        let wrong = self.seen.get(id).cloned().flatten();
        let good = wrong.is_none();
        if let Some(wrong) = wrong {
            self.fault(wrong, of);
        }
        Ok(good)
    }

    fn fault(&mut self, wrong: String, of: &str) {
        self.result.faults.entry(wrong).or_default().insert(of.to_owned());
    }
}

/// Damage and absence are results of a verification; that the system refuses is not.
fn fault(error: StoreError) -> Result<String> {
    match error {
        StoreError::Io { .. } => Err(error),
        wrong => Ok(wrong.to_string()),
    }
}
