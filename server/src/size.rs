//! Sizes on the command line: `64M`, `256K`, `1G`; powers of 1024.

use std::str::FromStr;

/// Below this the window does not hold the blocks a chain needs under way (`ka_proto::limits::MIN_WINDOW_BLOCKS`).
const MIN_BUFFER_BYTES: usize = 8 << 20;
/// Above this it is a typing error.
const MAX_BUFFER_BYTES: usize = 16 << 30;
/// Below this the 72 bytes of a block's header and the work per block begin to cost.
const MIN_BLOCK_BYTES: usize = 16 << 10;
/// The longest block the protocol carries, less a page for the image format's own header.
const MAX_BLOCK_BYTES: usize = (1 << 20) - 4096;

/// `--buffer`, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BufferSize(pub(crate) usize);

/// `--block-size`, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockSize(pub(crate) usize);

impl FromStr for BufferSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        bounded(text, MIN_BUFFER_BYTES, MAX_BUFFER_BYTES, "from 8M to 16G").map(Self)
    }
}

impl FromStr for BlockSize {
    type Err = String;

    /// `1M` means the most the protocol carries, which is a little less.
    fn from_str(text: &str) -> Result<Self, String> {
        bounded(text, MIN_BLOCK_BYTES, 1 << 20, "from 16K to 1M")
            .map(|bytes| Self(bytes.min(MAX_BLOCK_BYTES)))
    }
}

fn bounded(text: &str, min: usize, max: usize, range: &str) -> Result<usize, String> {
    match parse(text) {
        Some(bytes) if (min..=max).contains(&bytes) => Ok(bytes),
        Some(_) => Err(format!("a size {range} is possible")),
        None => Err("expected a size such as 64M or 256K".to_owned()),
    }
}

fn parse(text: &str) -> Option<usize> {
    let number = text.trim_end_matches(['B', 'b']).trim_end_matches('i');
    let (digits, shift) = match number.as_bytes().last()? {
        b'k' | b'K' => (&number[..number.len() - 1], 10),
        b'm' | b'M' => (&number[..number.len() - 1], 20),
        b'g' | b'G' => (&number[..number.len() - 1], 30),
        _ => (number, 0),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<usize>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::{BlockSize, BufferSize};

    #[test]
    fn sizes_take_units_in_both_spellings() {
        for (text, bytes) in [
            ("64M", 64 << 20),
            ("64m", 64 << 20),
            ("1GiB", 1 << 30),
            ("8388608", 8 << 20),
        ] {
            assert_eq!(text.parse(), Ok(BufferSize(bytes)), "{text}");
        }
        assert_eq!("256K".parse(), Ok(BlockSize(256 << 10)));
        assert_eq!("1M".parse(), Ok(BlockSize((1 << 20) - 4096)));
    }

    #[test]
    fn nonsense_and_what_is_out_of_bounds_is_refused() {
        for text in [
            "",
            "M",
            "-1M",
            "+64M",
            "64Q",
            "1K",
            "17G",
            "99999999999999999999G",
            "6ä4M",
            "64 M",
        ] {
            assert!(text.parse::<BufferSize>().is_err(), "{text}");
        }
        for text in ["1K", "2M"] {
            assert!(text.parse::<BlockSize>().is_err(), "{text}");
        }
    }
}
