//! `Range: bytes=…` (RFC 9110 §14): one range, or none.

use std::ops::Range;

/// Meaning of a `Range` header for a file of a given length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The whole file: a valid answer if the range is missing, malformed or multiple.
    All,
    /// The range of bytes, within the file.
    Part(Range<u64>),
    /// A range behind the end of the file.
    Beyond,
}

/// Parses the value of the header for a file of `len` bytes.
pub(super) fn wanted(header: &str, len: u64) -> Wanted {
    let Some((unit, set)) = header.split_once('=') else {
        return Wanted::All;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::All;
    }
    let Some((first, last)) = set.trim().split_once('-') else {
        return Wanted::All;
    };
    let number = |text: &str| -> Option<Option<u64>> {
        match text {
            "" => Some(None),
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(Some(digits.parse().unwrap_or(u64::MAX)))
            }
            _ => None,
        }
    };
    let part = match (number(first), number(last)) {
        (Some(Some(first)), Some(Some(last))) if first > last => return Wanted::All,
        (Some(Some(first)), Some(last)) => first..last.map_or(len, |last| last.saturating_add(1).min(len)),
        // A suffix range: the last `count` bytes.
        (Some(None), Some(Some(count))) => len.saturating_sub(count)..len,
        _ => return Wanted::All,
    };
    if part.start >= part.end {
        return Wanted::Beyond;
    }
    Wanted::Part(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn single_ranges_are_understood_and_everything_else_is_the_whole_file() {
        for (header, is) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=10-19", Wanted::Part(10..20)),
            ("bytes=90-", Wanted::Part(90..100)),
            ("bytes=90-1000", Wanted::Part(90..100)),
            ("bytes=-10", Wanted::Part(90..100)),
            ("Bytes= -1000", Wanted::Part(0..100)),
            ("bytes=100-", Wanted::Beyond),
            ("bytes=99999999999999999999999-", Wanted::Beyond),
            ("bytes=-0", Wanted::Beyond),
            ("bytes=9-8", Wanted::All),
            ("bytes=0-1,5-6", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=a-b", Wanted::All),
            ("lines=0-1", Wanted::All),
            ("bytes", Wanted::All),
        ] {
            assert_eq!(wanted(header, 100), is, "{header}");
        }
        assert_eq!(wanted("bytes=0-", 0), Wanted::Beyond);
    }

    proptest! {
        #[test]
        fn any_header_gives_a_range_within_the_file(header in ".{0,40}|bytes=[0-9]{0,22}-[0-9]{0,22}", len: u64) {
            if let Wanted::Part(part) = wanted(&header, len) {
                prop_assert!(part.start < part.end && part.end <= len);
            }
        }
    }
}
