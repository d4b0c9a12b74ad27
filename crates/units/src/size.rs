//! Sizes: `500`, `512M`, `1.5TiB`.

use thiserror::Error;

use crate::number::{scaled, split};

/// Letters of the units with their powers of two, the largest first.
const UNITS: [(&str, u32); 5] = [("T", 40), ("G", 30), ("M", 20), ("K", 10), ("B", 0)];

/// The error of a text that is not a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SizeError {
    /// The text has another form.
    #[error("write a number with K, M, G or T (1024 each), such as 64M")]
    NoSize,
    /// The unit counts in thousands, as the makers of disks do.
    #[error("write it with {0}, which is 1024 to the next unit: decimal {0}B are not taken")]
    Decimal(char),
    /// The size does not fit 64 bits.
    #[error("it is larger than any disk")]
    TooLarge,
}

/// Reads a size in bytes: a number with B, K, M, G or T, in capital or small letters. The unit may be
/// followed by `iB`. A bare number, which has no fraction, counts in units of `bare` bytes.
///
/// # Errors
/// [`SizeError`], with what to write instead.
pub fn size(text: &str, bare: u64) -> Result<u64, SizeError> {
    let (number, suffix) = split(text);
    let unit = match suffix {
        "" if number.contains('.') => return Err(SizeError::NoSize),
        "" => bare,
        _ => unit(suffix)?,
    };
    let bytes = scaled(number, unit).ok_or(SizeError::NoSize)?;
    u64::try_from(bytes).map_err(|_| SizeError::TooLarge)
}

fn unit(suffix: &str) -> Result<u64, SizeError> {
    let upper = suffix.to_ascii_uppercase();
    let known = |letter: &str| UNITS.iter().find(|(name, _)| *name == letter);
    if let Some((_, shift)) = known(upper.strip_suffix("IB").unwrap_or(&upper)) {
        return Ok(1 << shift);
    }
    let decimal = upper.strip_suffix('B').and_then(known);
    let decimal = decimal.filter(|(_, shift)| *shift > 0);
    let letter = decimal.and_then(|(name, _)| name.chars().next());
    Err(letter.map_or(SizeError::NoSize, SizeError::Decimal))
}

/// Formats a size as [`size`] reads it, in the largest unit that leaves a whole number: `1536G`.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    let fitting = UNITS
        .iter()
        .find(|(_, shift)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    let (name, shift) = fitting.copied().unwrap_or(("B", 0));
    format!("{}{name}", bytes >> shift)
}

#[cfg(test)]
mod tests {
    use super::{SizeError, size, size_text};

    #[test]
    fn units_are_binary_in_every_spelling() {
        for (text, bytes) in [
            ("64M", 64 << 20),
            ("64m", 64 << 20),
            ("64mib", 64 << 20),
            ("1GiB", 1 << 30),
            ("1.5T", 3 << 39),
            ("0.001G", 1_073_742),
            ("7B", 7),
            ("7", 7),
        ] {
            assert_eq!(size(text, 1), Ok(bytes), "{text}");
        }
        assert_eq!(size("500", 1 << 20), Ok(500 << 20));
    }

    #[test]
    fn what_is_no_size_is_refused_with_what_to_write() {
        for text in [
            "", "x", "-5", "+5M", "1.5", "5X", ".5G", "5.G", "1.2345G", "1e3", "5 G", "iB", "M", "6ä4M",
            "64MM",
        ] {
            assert_eq!(size(text, 1), Err(SizeError::NoSize), "{text}");
        }
        for text in ["5GB", "5gb"] {
            assert_eq!(size(text, 1), Err(SizeError::Decimal('G')), "{text}");
        }
        assert_eq!(size("99999999999999999999T", 1), Err(SizeError::TooLarge));
    }

    #[test]
    fn a_size_reads_back_as_it_was_written() {
        for text in ["512M", "1536G", "3T", "7K", "9B"] {
            assert_eq!(size_text(size(text, 1).unwrap()), text);
        }
    }
}
