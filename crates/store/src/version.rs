//! The record file of a version: its signed head.

use serde::{Deserialize, Serialize};

use crate::error::{Result, StoreError};
use crate::keys::{ChunkId, DataKey, OperatorKey, signed};

/// The kind of these objects.
pub(crate) const KIND: &str = "versions";
/// No record file is longer, in bytes: the recipe of 100 million files has less.
pub(crate) const MOST_BYTES: u64 = 64 << 20;
const FORMAT: u8 = 1;
/// The name of an image has no more letters.
const MOST_LETTERS: usize = 64;

/// The totals of a saved tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Entries that are no directories.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// The tree digest.
    pub digest: [u8; 32],
}

/// One saved state of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    pub(crate) image: String,
    pub(crate) number: u32,
    pub(crate) id: [u8; 8],
    pub(crate) saved: u64,
    pub(crate) root: String,
    pub(crate) totals: Totals,
    pub(crate) added: u64,
    pub(crate) recipe: Vec<ChunkId>,
}

impl Version {
    /// Returns the name of the image.
    #[must_use]
    pub fn image(&self) -> &str {
        &self.image
    }

    /// Returns `NUMBER-ID`: numbers grow with each save, and ids tell two saves apart that ran at once.
    #[must_use]
    pub fn label(&self) -> String {
        let id = data_encoding::HEXLOWER.encode(&self.id[..3]);
        format!("{}-{id}", self.number)
    }

    /// Returns the time of the save in seconds since 1970, by the saver's clock.
    #[must_use]
    pub fn saved(&self) -> u64 {
        self.saved
    }

    /// Returns the directory that was saved.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Returns the totals of the tree.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Returns the bytes that this save added to the store.
    #[must_use]
    pub fn added(&self) -> u64 {
        self.added
    }

    /// Says whether `text` names this version: its number or its whole label.
    #[must_use]
    pub fn is_called(&self, text: &str) -> bool {
        text == self.label() || text == self.number.to_string()
    }

    pub(crate) fn object(&self, key: &DataKey) -> String {
        let id = data_encoding::HEXLOWER.encode(&self.id);
        format!("{KIND}/{}-{}-{id}", key.name(), key.hidden(self.image.as_bytes()))
    }

    pub(crate) fn encode(&self, key: &DataKey, operator: &OperatorKey) -> Result<Vec<u8>> {
        let mut text = vec![FORMAT];
        text.extend(postcard::to_stdvec(self).map_err(|error| StoreError::Refused(error.to_string()))?);
        operator.sign(&key.seal_object(KIND, text)?)
    }

    /// Reads what [`Version::encode`] wrote, and the public key of who signed it.
    pub(crate) fn decode(object: &str, bytes: &[u8], key: &DataKey) -> Result<(Self, [u8; 32])> {
        let (signer, sealed) = signed(bytes).map_err(|why| StoreError::damaged(object, why))?;
        let text = key
            .open_object(KIND, sealed)
            .ok_or_else(|| StoreError::damaged(object, "its bytes were changed"))?;
        let version = parse(&text).map_err(|why| StoreError::damaged(object, why))?;
        if version.object(key) != object {
            return Err(StoreError::damaged(
                object,
                "it is the record file of another version",
            ));
        }
        Ok((version, signer))
    }
}

fn parse(text: &[u8]) -> std::result::Result<Version, String> {
    match text.split_first() {
        Some((&FORMAT, body)) => match postcard::take_from_bytes::<Version>(body) {
            Ok((version, [])) if check_name(&version.image).is_ok() => Ok(version),
            _ => Err("it cannot be read".to_owned()),
        },
        Some((format, _)) => Err(format!("it has format {format}, this program knows {FORMAT}")),
        None => Err("it is empty".to_owned()),
    }
}

/// Refuses what cannot be the name of an image.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    if name.is_empty() || name.len() > MOST_LETTERS || !name.chars().all(fits) || name.starts_with(['-', '.'])
    {
        return Err(StoreError::Refused(format!(
            "{name:?} is no name of an image: 1 to {MOST_LETTERS} letters, digits, '.', '_', '-'"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn version() -> Version {
        Version {
            image: "lab".to_owned(),
            number: 3,
            id: [7; 8],
            saved: 1,
            root: "/".to_owned(),
            totals: Totals::default(),
            added: 4,
            recipe: vec![[1; 32], [2; 32]],
        }
    }

    #[test]
    fn a_version_comes_back_under_its_own_name_only() {
        let (key, operator) = {
            let operator = OperatorKey::random().unwrap();
            (DataKey::first(&operator), operator)
        };
        let bytes = version().encode(&key, &operator).unwrap();
        let name = version().object(&key);
        let (read, signer) = Version::decode(&name, &bytes, &key).unwrap();
        assert_eq!((read, signer), (version(), operator.public().unwrap()));
        assert!(Version::decode("versions/other", &bytes, &key).is_err());
        assert!(Version::decode(&name, &bytes, &DataKey::public()).is_err());
    }

    #[test]
    fn a_newer_format_is_named() {
        assert_eq!(parse(&[9]).unwrap_err(), "it has format 9, this program knows 1");
    }

    #[test]
    fn names_are_checked() {
        assert!(check_name("lab-2026.1_a").is_ok());
        for name in ["", "-x", ".x", "a/b", "a b", "ä", &"a".repeat(65)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>(), tail in vec(any::<u8>(), 0..9)) {
            let mut text = vec![FORMAT];
            text.extend(postcard::to_stdvec(&version()).unwrap());
            let at = at.index(text.len());
            text[at] = byte;
            text.extend(tail);
            let _ = parse(&text);
        }
    }
}
