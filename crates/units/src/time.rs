//! Spans of time: `2s`, `15m`, `1h30m`, `0.5`.

use std::time::Duration;

use thiserror::Error;

use crate::number::{scaled, split};

/// Units with their milliseconds, the longest first.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// The error of a text that is not a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("write a time such as 2s, 15m or 1h30m")]
pub struct TimeError;

/// Reads a span of time: numbers, each with ms, s, m, h or d. A bare number counts in units of `bare`.
///
/// # Errors
/// [`TimeError`]: the text has another form, or the span does not fit 64 bits of milliseconds.
pub fn time(text: &str, bare: Duration) -> Result<Duration, TimeError> {
    let millis = |number: &str, unit: u64| {
        let millis = scaled(number, unit).and_then(|millis| u64::try_from(millis).ok());
        millis.map(Duration::from_millis).ok_or(TimeError)
    };
    let (mut number, mut rest) = split(text);
    if rest.is_empty() {
        let unit = u64::try_from(bare.as_millis()).map_err(|_| TimeError)?;
        return millis(number, unit);
    }
    let mut sum = Duration::ZERO;
    loop {
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (name, more) = rest.split_at(end);
        let known = UNITS.iter().find(|(known, _)| *known == name);
        let (_, unit) = known.ok_or(TimeError)?;
        sum = sum.checked_add(millis(number, *unit)?).ok_or(TimeError)?;
        if more.is_empty() {
            return Ok(sum);
        }
        (number, rest) = split(more);
    }
}

/// Formats a span of time as [`time`] reads it, in the longest unit that leaves a whole number: `90m`.
#[must_use]
pub fn time_text(span: Duration) -> String {
    let millis = span.as_millis();
    let fitting = UNITS
        .iter()
        .find(|(_, unit)| millis > 0 && millis.is_multiple_of(u128::from(*unit)));
    let (name, unit) = fitting.copied().unwrap_or(("s", 1000));
    format!("{}{name}", millis / u128::from(unit))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{TimeError, time, time_text};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn times_have_units_and_a_bare_number_counts_in_the_options_own() {
        for (text, millis) in [
            ("2s", 2000),
            ("15m", 900_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("250ms", 250),
            ("0.5", 500),
            ("1.5s", 1500),
            ("20", 20_000),
            ("0", 0),
        ] {
            assert_eq!(time(text, SECOND), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(time("20", SECOND / 10), Ok(2 * SECOND));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "s",
            "-1",
            "1 s",
            "2x",
            "1h30",
            "NaN",
            "1e300",
            "1.2345",
            "99999999999999999999d",
        ] {
            assert_eq!(time(text, SECOND), Err(TimeError), "{text}");
        }
    }

    #[test]
    fn a_time_reads_back_as_it_was_written() {
        for text in ["2s", "90m", "7d", "500ms", "0s"] {
            assert_eq!(time_text(time(text, SECOND).unwrap()), text);
        }
    }
}
