//! The recipe of a version: its blocks, with content replaced by the names of chunks. Pure.
//!
//! For each block: length u32, number of parts u32, parts. A part is 0, length u32, bytes; or 1, chunk id, length u32.

use crate::cut::LONGEST;
use crate::keys::ChunkId;

/// A block of a recipe makes no more than this, in bytes (`ka_tree::MAX_BLOCK_BYTES`).
const MOST_BYTES: usize = ka_tree::MAX_BLOCK_BYTES;
/// A block has no more parts than this: two for each record, and a record has 5 bytes at least.
const MOST_PARTS: usize = MOST_BYTES / 2;

/// A piece of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Bytes(Vec<u8>),
    Chunk(ChunkId, u32),
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Chunk(_, len) => *len as usize,
        }
    }
}

/// Appends a block to a recipe.
pub(crate) fn put(recipe: &mut Vec<u8>, parts: &[Part]) {
    let word = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    recipe.extend_from_slice(&word(parts.iter().map(Part::len).sum()));
    recipe.extend_from_slice(&word(parts.len()));
    for part in parts {
        match part {
            Part::Bytes(bytes) => {
                recipe.push(0);
                recipe.extend_from_slice(&word(bytes.len()));
                recipe.extend_from_slice(bytes);
            }
            Part::Chunk(id, len) => {
                recipe.push(1);
                recipe.extend_from_slice(id);
                recipe.extend_from_slice(&len.to_le_bytes());
            }
        }
    }
}

/// Takes the first block off `rest`: `Ok(None)` while it is not there as a whole.
pub(crate) fn take(rest: &mut &[u8]) -> Result<Option<Vec<Part>>, &'static str> {
    let mut ahead = *rest;
    let (Some(len), Some(count)) = (word(&mut ahead), word(&mut ahead)) else {
        return Ok(None);
    };
    if len > MOST_BYTES || count > MOST_PARTS {
        return Err("a block of its recipe is too long");
    }
    let mut parts = Vec::new();
    let mut left = len;
    for _ in 0..count {
        let Some((tag, after)) = ahead.split_first() else {
            return Ok(None);
        };
        ahead = after;
        let part = match tag {
            0 => {
                let Some(len) = word(&mut ahead) else {
                    return Ok(None);
                };
                if len > left {
                    return Err("a part of its recipe is too long");
                }
                let Some((bytes, after)) = ahead.split_at_checked(len) else {
                    return Ok(None);
                };
                ahead = after;
                Part::Bytes(bytes.to_vec())
            }
            1 => {
                let Some((id, after)) = ahead.split_first_chunk::<32>() else {
                    return Ok(None);
                };
                ahead = after;
                let Some(len) = word(&mut ahead) else {
                    return Ok(None);
                };
                if len > LONGEST {
                    return Err("a chunk of its recipe is too long");
                }
                Part::Chunk(*id, u32::try_from(len).unwrap_or(u32::MAX))
            }
            _ => return Err("a part of its recipe is of unknown kind"),
        };
        left = left
            .checked_sub(part.len())
            .ok_or("a block of its recipe is longer than it says")?;
        parts.push(part);
    }
    if left != 0 {
        return Err("a block of its recipe is shorter than it says");
    }
    *rest = ahead;
    Ok(Some(parts))
}

fn word(rest: &mut &[u8]) -> Option<usize> {
    let (bytes, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    usize::try_from(u32::from_le_bytes(*bytes)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn part() -> impl Strategy<Value = Part> {
        prop_oneof![
            vec(any::<u8>(), 0..50).prop_map(Part::Bytes),
            (any::<[u8; 32]>(), 0u32..1000).prop_map(|(id, len)| Part::Chunk(id, len)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_put_is_taken(blocks in vec(vec(part(), 0..8), 0..8)) {
            let mut recipe = Vec::new();
            blocks.iter().for_each(|parts| put(&mut recipe, parts));
            let mut rest = &recipe[..];
            for parts in &blocks {
                prop_assert_eq!(&take(&mut rest).unwrap().unwrap(), parts);
            }
            prop_assert_eq!(take(&mut rest), Ok(None));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn a_cut_block_waits_for_its_rest(parts in vec(part(), 0..8)) {
            let mut recipe = Vec::new();
            put(&mut recipe, &parts);
            for len in 0..recipe.len() {
                let mut rest = &recipe[..len];
                prop_assert_eq!(take(&mut rest), Ok(None));
                prop_assert_eq!(rest.len(), len);
            }
        }

        #[test]
        fn damage_never_panics(parts in vec(part(), 1..8), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut recipe = Vec::new();
            put(&mut recipe, &parts);
            let at = at.index(recipe.len());
            recipe[at] = byte;
            let _ = take(&mut &recipe[..]);
        }

        #[test]
        fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
            let _ = take(&mut &bytes[..]);
        }
    }
}
