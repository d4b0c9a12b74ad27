//! The places of file content in a plain block, for who keeps content apart from records.

use std::ops::Range;

use crate::block::{HEADER_BYTES, OpenBlock};
use crate::meta::Meta;
use crate::record::{Cursor, Kind, Malformed, take};

/// A block that is none, or is compressed; the text says which part.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoBlock(String);

/// Returns the places of file content in a block that is not compressed, in ascending order. What lies between them is
/// frames and metadata.
///
/// # Errors
/// The block is compressed or damaged.
pub fn contents(block: &[u8]) -> Result<Vec<Range<usize>>, NoBlock> {
    let mut inflater = zstd::bulk::Decompressor::new().map_err(|err| NoBlock(err.to_string()))?;
    let open = OpenBlock::open(block, &mut inflater).map_err(NoBlock)?;
    if matches!(open, OpenBlock::Inflated(_)) {
        return Err(NoBlock("a compressed block".to_owned()));
    }
    places(block).map_err(|err| NoBlock(err.to_string()))
}

fn places(block: &[u8]) -> Result<Vec<Range<usize>>, Malformed> {
    let mut rest = block.get(HEADER_BYTES..).unwrap_or(&[]);
    let mut places = Vec::new();
    while let Some(record) = take(&mut rest)? {
        let mut body = Cursor(record.body);
        match record.kind {
            Kind::File => {
                Meta::take(&mut body)?;
            }
            Kind::Extent => {
                body.bytes(16)?;
            }
            Kind::RawData => {
                body.bytes(8)?;
            }
            _ => continue,
        }
        let end = block.len() - rest.len();
        places.push(end - body.0.len()..end);
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::block::{seal_plain, seal_zstd, start};
    use crate::record::put;

    fn block() -> Vec<u8> {
        let meta = Meta {
            mode: 0o100_644,
            name: b"motd",
            ..Meta::default()
        };
        let mut block = start(100);
        put(&mut block, Kind::At, None, |body| body.extend_from_slice(&[0; 8]));
        put(&mut block, Kind::File, None, |body| {
            meta.put(body);
            body.extend_from_slice(b"hello");
        });
        put(&mut block, Kind::Extent, None, |body| {
            body.extend_from_slice(&[1; 16]);
            body.extend_from_slice(b"extent");
        });
        seal_plain(&mut block);
        block
    }

    #[test]
    fn contents_are_found_and_nothing_else() {
        let block = block();
        let found: Vec<_> = contents(&block)
            .unwrap()
            .into_iter()
            .map(|place| &block[place])
            .collect();
        assert_eq!(found, [&b"hello"[..], b"extent"]);
    }

    #[test]
    fn a_compressed_block_is_refused() {
        let mut block = start(1000);
        put(&mut block, Kind::RawData, None, |body| {
            body.extend_from_slice(&[0; 1000])
        });
        let small = seal_zstd(&block, &mut zstd::bulk::Compressor::new(1).unwrap()).unwrap();
        assert!(contents(&small).is_err());
    }

    proptest! {
        #[test]
        fn a_damaged_block_never_panics(at in 0usize..100, byte in any::<u8>()) {
            let mut block = block();
            let at = at % block.len();
            block[at] = byte;
            if let Ok(places) = contents(&block) {
                places.into_iter().for_each(|place| assert!(place.end <= block.len()));
            }
        }
    }
}
