//! An opened store: its backend, the key of its content, its versions.

use std::collections::HashSet;

use crate::backend::Backend;
use crate::error::{Result, StoreError};
use crate::index::{Index, Place};
use crate::keys::{ChunkId, DataKey, OperatorKey};
use crate::version::{KIND, MOST_BYTES, Version};

/// A wrapped key has 32 bytes and what sealing adds.
const WRAPPED_BYTES: u64 = 60;

/// A store, opened with an operator's key.
pub struct Store {
    backend: Box<dyn Backend>,
    operator: OperatorKey,
    key: DataKey,
    public: bool,
}

impl Store {
    /// Opens the images that only `operator` can read.
    ///
    /// # Errors
    /// The store has no images for this key.
    pub fn open(backend: Box<dyn Backend>, operator: OperatorKey) -> Result<Self> {
        let key = find_key(backend.as_ref(), &operator)?.ok_or_else(|| {
            StoreError::Refused("the store has no image that this operator's key opens".to_owned())
        })?;
        Ok(Self {
            backend,
            operator,
            key,
            public: false,
        })
    }

    /// Opens the images that only `operator` can read, and makes their key where it is missing.
    ///
    /// # Errors
    /// The backend refuses.
    pub fn create(backend: Box<dyn Backend>, operator: OperatorKey) -> Result<Self> {
        if find_key(backend.as_ref(), &operator)?.is_none() {
            let first = DataKey::first(&operator);
            let name = format!("keys/{}-{}", operator.name(), first.name());
            backend.put(&name, &first.wrapped(&operator)?)?;
        }
        Self::open(backend, operator)
    }

    /// Opens the images that everybody can read; `operator` signs what is saved.
    #[must_use]
    pub fn public(backend: Box<dyn Backend>, operator: OperatorKey) -> Self {
        Self {
            backend,
            operator,
            key: DataKey::public(),
            public: true,
        }
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        self.backend.as_ref()
    }

    pub(crate) fn key(&self) -> &DataKey {
        &self.key
    }

    pub(crate) fn operator(&self) -> &OperatorKey {
        &self.operator
    }

    /// Returns all versions, by image and number.
    ///
    /// # Errors
    /// A record file is damaged, or signed by somebody else in a store that is not public.
    pub fn versions(&self) -> Result<Vec<Version>> {
        let mut versions = Vec::new();
        for object in self.backend.list(&format!("{KIND}/{}-", self.key.name()))? {
            if object.size > MOST_BYTES {
                return Err(StoreError::damaged(&object.name, "it is too long"));
            }
            let bytes = match self.backend.get(&object.name, 0..object.size) {
                // It was removed beside this listing.
                Err(StoreError::Missing(_)) => continue,
                got => got?,
            };
            let (version, signer) = Version::decode(&object.name, &bytes, &self.key)?;
            if !self.public && signer != self.operator.public()? {
                return Err(StoreError::damaged(&object.name, "another key signed it"));
            }
            versions.push(version);
        }
        versions
            .sort_by(|a, b| (&a.image, a.number, a.saved, a.id).cmp(&(&b.image, b.number, b.saved, b.id)));
        Ok(versions)
    }

    /// Returns the version that `NAME` (the newest) or `NAME@VERSION` names.
    ///
    /// # Errors
    /// There is none, or there are two.
    pub fn version(&self, text: &str) -> Result<Version> {
        let (image, called) = text
            .split_once('@')
            .map_or((text, None), |(image, called)| (image, Some(called)));
        let mut of_image: Vec<_> = self
            .versions()?
            .into_iter()
            .filter(|version| version.image == image)
            .collect();
        let newest = of_image
            .pop()
            .ok_or_else(|| StoreError::Refused(format!("the store has no image {image}")))?;
        let Some(called) = called else { return Ok(newest) };
        of_image.push(newest);
        of_image.retain(|version| version.is_called(called));
        match of_image.len() {
            0 => Err(StoreError::Refused(format!(
                "image {image} has no version {called}"
            ))),
            1 => Ok(of_image.remove(0)),
            _ => Err(StoreError::Refused(format!(
                "image {image} has several versions {called}: name one by {}",
                of_image
                    .iter()
                    .map(Version::label)
                    .collect::<Vec<_>>()
                    .join(" or ")
            ))),
        }
    }

    /// Removes a version; prune frees its space.
    ///
    /// # Errors
    /// The backend refuses.
    pub fn remove(&self, version: &Version) -> Result<()> {
        self.backend.delete(&version.object(&self.key))
    }

    /// Reads the index without the packs that prune has marked.
    pub(crate) fn trusted_index(&self, marked: &HashSet<String>) -> Result<Index> {
        Index::trusted(self.backend(), &self.key, marked)
    }

    /// Reads the whole index, preferring packs that are not `marked`.
    pub(crate) fn index_beside(&self, marked: &HashSet<String>) -> Result<Index> {
        Index::load(self.backend(), &self.key, marked)
    }

    /// Reads the chunk at a place, and proves that it is this one.
    pub(crate) fn chunk(&self, id: &ChunkId, place: Place<'_>) -> Result<Vec<u8>> {
        let range = u64::from(place.offset)..u64::from(place.offset) + u64::from(place.sealed);
        let sealed = self.backend.get(place.pack, range)?;
        crate::chunk::open(&self.key, id, &sealed)
            .ok_or_else(|| StoreError::damaged(place.pack, "bytes of it were changed"))
    }
}

/// Returns the key with the smallest name. Savers that begin a store at once make the same one.
fn find_key(backend: &dyn Backend, operator: &OperatorKey) -> Result<Option<DataKey>> {
    let Some(object) = backend
        .list(&format!("keys/{}-", operator.name()))?
        .into_iter()
        .next()
    else {
        return Ok(None);
    };
    if object.size != WRAPPED_BYTES {
        return Err(StoreError::damaged(&object.name, "it has a wrong length"));
    }
    let wrapped = backend.get(&object.name, 0..object.size)?;
    DataKey::unwrap_with(operator, &wrapped)
        .map(Some)
        .ok_or_else(|| StoreError::damaged(&object.name, "its bytes were changed"))
}
