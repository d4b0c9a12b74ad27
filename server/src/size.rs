//! `--block-size`: how large the blocks are that data travels in.

use std::str::FromStr;

use ka_status::option::bounded_size;

/// Below this the 72 bytes of a block's header and the work per block begin to cost.
const MIN_BLOCK_BYTES: usize = 16 << 10;
/// The longest block the protocol carries, less a page for the image format's own header.
const MAX_BLOCK_BYTES: usize = (1 << 20) - 4096;

/// `--block-size`, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockSize(pub(crate) usize);

impl FromStr for BlockSize {
    type Err = String;

    /// `1M` means the most the protocol carries, which is a little less.
    fn from_str(text: &str) -> Result<Self, String> {
        bounded_size(text, MIN_BLOCK_BYTES, 1 << 20, "from 16K to 1M")
            .map(|bytes| Self(bytes.min(MAX_BLOCK_BYTES)))
    }
}

#[cfg(test)]
mod tests {
    use super::BlockSize;

    #[test]
    fn a_whole_mebibyte_is_the_most_that_the_protocol_carries() {
        assert_eq!("256K".parse(), Ok(BlockSize(256 << 10)));
        assert_eq!("1M".parse(), Ok(BlockSize((1 << 20) - 4096)));
        for text in ["1K", "2M", "", "M"] {
            assert!(text.parse::<BlockSize>().is_err(), "{text}");
        }
    }
}
