//! One block: eight bytes of header, then records, plain or compressed. `docs/tree-format.md` §1.

use crate::MAX_BLOCK_BYTES;

/// Version, method, two zero bytes, raw length as u32.
pub(crate) const HEADER_BYTES: usize = 8;
/// Records of one block, uncompressed, in bytes. A block that does not shrink still fits [`MAX_BLOCK_BYTES`].
pub(crate) const MAX_RAW_BYTES: usize = MAX_BLOCK_BYTES - HEADER_BYTES;

const VERSION: u8 = 1;
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;

/// Returns an empty block with room for its header; records are appended, then it is sealed.
pub(crate) fn start(capacity: usize) -> Vec<u8> {
    let mut block = Vec::with_capacity(HEADER_BYTES + capacity);
    block.resize(HEADER_BYTES, 0);
    block
}

/// Writes the header of a block whose records are plain.
pub(crate) fn seal_plain(block: &mut [u8]) {
    let raw_len = block.len() - HEADER_BYTES;
    block[..HEADER_BYTES].copy_from_slice(&header(PLAIN, raw_len));
}

/// Returns the compressed form of a started block, or `None` when it does not save a sixteenth: then it is
/// not worth the receiver's time.
pub(crate) fn seal_zstd(block: &[u8], compressor: &mut zstd::bulk::Compressor<'_>) -> Option<Vec<u8>> {
    let raw = &block[HEADER_BYTES..];
    let room = raw.len() - raw.len() / 16;
    let mut sealed = vec![0; HEADER_BYTES + room];
    let len = compressor
        .compress_to_buffer(raw, &mut sealed[HEADER_BYTES..])
        .ok()?;
    sealed.truncate(HEADER_BYTES + len);
    sealed[..HEADER_BYTES].copy_from_slice(&header(ZSTD, raw.len()));
    Some(sealed)
}

fn header(method: u8, raw_len: usize) -> [u8; HEADER_BYTES] {
    debug_assert!(raw_len <= MAX_RAW_BYTES, "a block of {raw_len} bytes");
    let len = u32::try_from(raw_len).unwrap_or(u32::MAX).to_le_bytes();
    [VERSION, method, 0, 0, len[0], len[1], len[2], len[3]]
}

/// A received block, decompressed when it was compressed.
#[derive(Debug)]
pub(crate) enum OpenBlock<B> {
    Plain(B),
    Inflated(Vec<u8>),
}

impl<B: AsRef<[u8]>> OpenBlock<B> {
    /// Checks the header and decompresses. The reason of a refusal is for the operator.
    pub(crate) fn open(block: B, inflater: &mut zstd::bulk::Decompressor<'_>) -> Result<Self, String> {
        let bytes = block.as_ref();
        let Some((header, payload)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(format!("a block of {} bytes has no header", bytes.len()));
        };
        let &[version, method, zero0, zero1, l0, l1, l2, l3] = header;
        if version != VERSION {
            return Err(format!("block format {version}, this program knows {VERSION}"));
        }
        let raw_len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if raw_len > MAX_RAW_BYTES || zero0 != 0 || zero1 != 0 {
            return Err(format!("a block header that claims {raw_len} bytes"));
        }
        match method {
            PLAIN if payload.len() == raw_len => Ok(Self::Plain(block)),
            PLAIN => Err(format!("a block of {} bytes claims {raw_len}", payload.len())),
            ZSTD => {
                let raw = inflater
                    .decompress(payload, raw_len)
                    .map_err(|err| format!("a compressed block: {err}"))?;
                if raw.len() != raw_len {
                    return Err(format!(
                        "a compressed block holds {} bytes and claims {raw_len}",
                        raw.len()
                    ));
                }
                Ok(Self::Inflated(raw))
            }
            other => Err(format!("compression method {other}, this program knows 0 and 1")),
        }
    }

    /// Returns the records.
    pub(crate) fn records(&self) -> &[u8] {
        match self {
            Self::Plain(block) => block.as_ref().get(HEADER_BYTES..).unwrap_or(&[]),
            Self::Inflated(raw) => raw,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(block: &[u8]) -> Result<Vec<u8>, String> {
        let mut inflater = zstd::bulk::Decompressor::new().map_err(|err| err.to_string())?;
        OpenBlock::open(block, &mut inflater).map(|open| open.records().to_vec())
    }

    fn block_of(raw: &[u8]) -> Vec<u8> {
        let mut block = start(raw.len());
        block.extend_from_slice(raw);
        block
    }

    #[test]
    fn a_block_comes_back_plain_and_compressed() {
        let raw = vec![7; 100_000];
        let mut block = block_of(&raw);
        let small = seal_zstd(&block, &mut zstd::bulk::Compressor::new(1).unwrap()).unwrap();
        assert!(small.len() < 1000);
        assert_eq!(open(&small).unwrap(), raw);
        seal_plain(&mut block);
        assert_eq!(open(&block).unwrap(), raw);
    }

    #[test]
    fn a_block_that_does_not_shrink_stays_plain() {
        let raw: Vec<u8> = (0..2000u32)
            .flat_map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes())
            .collect();
        assert!(seal_zstd(&block_of(&raw), &mut zstd::bulk::Compressor::new(1).unwrap()).is_none());
    }

    #[test]
    fn every_truncation_is_refused() {
        let raw = vec![7; 1000];
        let mut block = block_of(&raw);
        let small = seal_zstd(&block, &mut zstd::bulk::Compressor::new(1).unwrap()).unwrap();
        seal_plain(&mut block);
        for whole in [block, small] {
            (0..whole.len()).for_each(|len| assert!(open(&whole[..len]).is_err(), "{len} bytes"));
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_inflated() {
        let mut bomb = vec![VERSION, ZSTD, 0, 0, 0xff, 0xff, 0xff, 0x7f];
        bomb.extend(zstd::bulk::compress(&vec![0; 8 << 20], 1).unwrap());
        assert!(open(&bomb).is_err());
        bomb[4..8].copy_from_slice(&4096u32.to_le_bytes());
        assert!(open(&bomb).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = open(&bytes);
            let mut with_header = vec![VERSION, ZSTD, 0, 0, 200, 0, 0, 0];
            with_header.extend_from_slice(&bytes);
            let _ = open(&with_header);
        }
    }
}
