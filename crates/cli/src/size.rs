//! Sizes on the command line, such as `64M`, within bounds.

use std::ops::RangeInclusive;
use std::str::FromStr;

use ka_units::size_text;

/// Range of `--buffer`, in bytes. Below it, the window does not hold the blocks that a chain needs under way
/// (`ka_proto::limits::MIN_WINDOW_BLOCKS`). A value above it is a typing error.
const BUFFER_BYTES: RangeInclusive<u64> = 8 << 20..=16 << 30;

/// The value of `--buffer`, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferSize(pub usize);

impl FromStr for BufferSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = bounded_size(text, BUFFER_BYTES)?;
        let bytes =
            usize::try_from(bytes).map_err(|_| format!("{text} is more than this machine can address"))?;
        Ok(Self(bytes))
    }
}

/// Reads a size in bytes that lies within `bounds`. A bare number counts in bytes ([`ka_units::size()`]).
///
/// # Errors
/// A text without the name of the option. It tells what is wrong with the size, and the possible values.
pub fn bounded_size(text: &str, bounds: RangeInclusive<u64>) -> Result<u64, String> {
    let bytes = ka_units::size(text, 1).map_err(|error| error.to_string())?;
    let (least, most) = bounds.into_inner();
    if bytes < least {
        return Err(format!("{text} is less than {}", size_text(least)));
    }
    if bytes > most {
        return Err(format!("{text} is more than {}", size_text(most)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::BufferSize;

    #[test]
    fn sizes_take_units_in_both_spellings() {
        for (text, bytes) in [
            ("64M", 64 << 20),
            ("64m", 64 << 20),
            ("1GiB", 1 << 30),
            ("8388608", 8 << 20),
            ("8192k", 8 << 20),
        ] {
            assert_eq!(text.parse(), Ok(BufferSize(bytes)), "{text}");
        }
    }

    #[test]
    fn nonsense_and_what_is_out_of_bounds_is_refused() {
        let wrong = [
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
        ];
        for text in wrong {
            assert!(text.parse::<BufferSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_refusal_says_what_is_wrong_with_the_size() {
        for (text, said) in [
            ("1T", "1T is more than 16G"),
            ("1K", "1K is less than 8M"),
            ("64MB", "write it with M"),
            ("much", "such as 64M"),
        ] {
            let error = text.parse::<BufferSize>().unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
