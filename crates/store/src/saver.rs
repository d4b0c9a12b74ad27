//! A save: blocks in, packs out, then the index, and the version last.

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::chunk;
use crate::cut;
use crate::error::{Result, StoreError};
use crate::index::{self, Index, Packs, Stored};
use crate::keys::{ChunkId, random};
use crate::marks;
use crate::recipe::{self, Part};
use crate::store::Store;
use crate::version::{Totals, Version, check_name};

/// A pack is written when it has so many bytes. With one more chunk it stays far below 32 MiB.
const PACK_BYTES: usize = 16 << 20;
/// Shorter content stays in the recipe: its name and place would be as long.
const SHORTEST: usize = 1024;
/// The recipe is cut when so much of it waits: many chunks at once, and little memory.
const RECIPE_BYTES: usize = 4 << 20;
/// A save that takes longer is given up, because a prune may have marked what it relies on: less than prune's grace.
const LONGEST_SAVE: Duration = Duration::from_secs(20 * 3600);

/// A version that is being saved. Dropped before [`Saver::finish`], it never was.
pub struct Saver<'a> {
    store: &'a Store,
    image: String,
    root: String,
    begun: Instant,
    index: Index,
    fresh: HashSet<ChunkId>,
    pack: Vec<u8>,
    chunks: Vec<Stored>,
    written: Packs,
    added: u64,
    recipe: Vec<u8>,
    recipe_chunks: Vec<ChunkId>,
}

impl Store {
    /// Begins a new version of `image`, of the tree at `root`.
    ///
    /// # Errors
    /// The name is no name, or the store cannot be read.
    pub fn save(&self, image: &str, root: &str) -> Result<Saver<'_>> {
        check_name(image)?;
        let doomed = marks::packs(self)?;
        Ok(Saver {
            store: self,
            image: image.to_owned(),
            root: root.to_owned(),
            begun: Instant::now(),
            index: self.trusted_index(&doomed)?,
            fresh: HashSet::new(),
            pack: Vec::new(),
            chunks: Vec::new(),
            written: Packs::new(),
            added: 0,
            recipe: Vec::new(),
            recipe_chunks: Vec::new(),
        })
    }
}

impl Saver<'_> {
    /// Takes the next block of the stream, which must not be compressed.
    ///
    /// # Errors
    /// The block is none, or the store refuses a pack.
    pub fn block(&mut self, block: &[u8]) -> Result<()> {
        let contents = ka_tree::contents(block).map_err(|error| StoreError::Refused(error.to_string()))?;
        let mut parts = Vec::new();
        let mut from = 0;
        for place in contents.into_iter().filter(|place| place.len() >= SHORTEST) {
            let content = block.get(place.clone()).unwrap_or(&[]);
            parts.push(Part::Bytes(block.get(from..place.start).unwrap_or(&[]).to_vec()));
            self.content(content, &mut parts)?;
            from = place.end;
        }
        parts.push(Part::Bytes(block.get(from..).unwrap_or(&[]).to_vec()));
        recipe::put(&mut self.recipe, &parts);
        if self.recipe.len() >= RECIPE_BYTES {
            self.cut_recipe(false)
        } else {
            Ok(())
        }
    }

    /// Writes what is left, and then the version.
    ///
    /// # Errors
    /// The store refuses: there is no new version.
    pub fn finish(mut self, totals: Totals) -> Result<Version> {
        self.cut_recipe(true)?;
        self.end_pack()?;
        if !self.written.is_empty() {
            index::write(self.store.backend(), self.store.key(), &self.written)?;
        }
        if self.begun.elapsed() > LONGEST_SAVE {
            return Err(StoreError::Refused(
                "the save took longer than 20 hours and is given up".to_owned(),
            ));
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let older = self.store.versions()?;
        let last = older
            .iter()
            .filter(|version| version.image == self.image)
            .map(|version| version.number)
            .max();
        let version = Version {
            number: last.unwrap_or(0).saturating_add(1),
            id: random()?,
            saved: now,
            totals,
            added: self.added,
            image: self.image,
            root: self.root,
            recipe: self.recipe_chunks,
        };
        let bytes = version.encode(self.store.key(), self.store.operator())?;
        self.store
            .backend()
            .put(&version.object(self.store.key()), &bytes)?;
        Ok(version)
    }

    fn content(&mut self, mut content: &[u8], parts: &mut Vec<Part>) -> Result<()> {
        while !content.is_empty() {
            let (chunk, rest) = content.split_at(cut::first(content));
            let id = self.chunk(chunk)?;
            parts.push(Part::Chunk(id, u32::try_from(chunk.len()).unwrap_or(u32::MAX)));
            content = rest;
        }
        Ok(())
    }

    /// Cuts the recipe; unless it is the end, its last chunk waits for more.
    fn cut_recipe(&mut self, end: bool) -> Result<()> {
        let recipe = std::mem::take(&mut self.recipe);
        let mut rest = &recipe[..];
        while rest.len() > if end { 0 } else { cut::LONGEST } {
            let (chunk, after) = rest.split_at(cut::first(rest));
            let id = self.chunk(chunk)?;
            self.recipe_chunks.push(id);
            rest = after;
        }
        self.recipe = rest.to_vec();
        Ok(())
    }

    fn chunk(&mut self, content: &[u8]) -> Result<ChunkId> {
        let key = self.store.key();
        let id = key.id(content);
        if self.index.has(&id) || !self.fresh.insert(id) {
            return Ok(id);
        }
        let sealed = chunk::seal(key, &id, content)?;
        let word = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.chunks.push(Stored {
            id,
            offset: word(self.pack.len()),
            sealed: word(sealed.len()),
        });
        self.pack.extend_from_slice(&sealed);
        if self.pack.len() >= PACK_BYTES {
            self.end_pack()?;
        }
        Ok(id)
    }

    fn end_pack(&mut self) -> Result<()> {
        if self.pack.is_empty() {
            return Ok(());
        }
        let key = self.store.key();
        let name = format!("packs/{}-{}", key.name(), key.hidden(&self.pack));
        self.store.backend().put(&name, &self.pack)?;
        self.added += self.pack.len() as u64;
        self.written.insert(name, std::mem::take(&mut self.chunks));
        self.pack.clear();
        Ok(())
    }
}
