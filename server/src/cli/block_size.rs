//! `--block-size`: the size of the blocks in which data travels.

use std::str::FromStr;

use ka_cli::size::bounded_size;

/// Smallest block, in bytes. Below this the 72 bytes of a block's header and the work per block begin to
/// cost.
const MIN_BLOCK_BYTES: u64 = 16 << 10;
/// Largest value of the option, in bytes. It is rounded down to [`MAX_BLOCK_BYTES`].
const MAX_SAID_BYTES: u64 = 1 << 20;
/// Longest block that the protocol carries, less a page for the tree stream's own header.
const MAX_BLOCK_BYTES: usize = (1 << 20) - 4096;

/// `--block-size`, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockSize(pub(crate) usize);

impl FromStr for BlockSize {
    type Err = String;

    /// Parses a size. `1M` means the most that the protocol carries, which is a little less.
    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = bounded_size(text, MIN_BLOCK_BYTES..=MAX_SAID_BYTES)?;
        Ok(Self(
            usize::try_from(bytes).map_or(MAX_BLOCK_BYTES, |bytes| bytes.min(MAX_BLOCK_BYTES)),
        ))
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
