//! A chunk as it lies in a pack: compressed when that pays, then sealed.

use crate::cut::LONGEST;
use crate::error::Result;
use crate::keys::{ChunkId, DataKey};

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
/// The level of zstd: a third smaller than level 1 costs twice the time.
const LEVEL: i32 = 1;

/// Returns the sealed form of a chunk.
pub(crate) fn seal(key: &DataKey, id: &ChunkId, content: &[u8]) -> Result<Vec<u8>> {
    let small = zstd::bulk::compress(content, LEVEL).ok();
    let text = match small {
        Some(small) if small.len() + content.len() / 16 < content.len() => [&[ZSTD], &small[..]].concat(),
        _ => [&[PLAIN], content].concat(),
    };
    key.seal_chunk(id, text)
}

/// Returns the content, when nothing of it was changed.
pub(crate) fn open(key: &DataKey, id: &ChunkId, sealed: &[u8]) -> Option<Vec<u8>> {
    let mut text = key.open_chunk(id, sealed)?;
    let content = match *text.first()? {
        PLAIN => text.split_off(1),
        ZSTD => zstd::bulk::decompress(text.get(1..)?, LONGEST).ok()?,
        _ => return None,
    };
    (key.id(&content) == *id).then_some(content)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_chunk_comes_back(content in proptest::collection::vec(any::<u8>(), 0..2000), times in 1usize..50) {
            let content = content.repeat(times);
            let key = DataKey::public();
            let id = key.id(&content);
            let sealed = seal(&key, &id, &content).unwrap();
            prop_assert_eq!(open(&key, &id, &sealed), Some(content));
            prop_assert_eq!(open(&key, &[0; 32], &sealed), None);
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let key = DataKey::public();
        let content = vec![0; 64 << 20];
        let id = key.id(&content);
        let bomb = [&[ZSTD], &zstd::bulk::compress(&content, 1).unwrap()[..]].concat();
        assert_eq!(open(&key, &id, &key.seal_chunk(&id, bomb).unwrap()), None);
    }
}
