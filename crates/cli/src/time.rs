//! Spans of time on the command line, such as `15m`, within bounds.

use std::ops::RangeInclusive;
use std::time::Duration;

use ka_units::time_text;

/// Reads a span of time that lies within `bounds`. A bare number counts in units of `bare`
/// ([`ka_units::time()`]).
///
/// # Errors
/// A text without the name of the option. It tells what is wrong with the time, and the possible values.
pub fn bounded_time(
    text: &str,
    bare: Duration,
    bounds: RangeInclusive<Duration>,
) -> Result<Duration, String> {
    let span = ka_units::time(text, bare).map_err(|error| error.to_string())?;
    let (least, most) = bounds.into_inner();
    if span < least {
        return Err(format!("{text} is less than {}", time_text(least)));
    }
    if span > most {
        return Err(format!("{text} is more than {}", time_text(most)));
    }
    Ok(span)
}

/// Reads a span of time as [`bounded_time`] does, for an option whose bare number counts in seconds and that
/// may be zero.
///
/// # Errors
/// As [`bounded_time`].
pub fn seconds_up_to(text: &str, most: Duration) -> Result<Duration, String> {
    bounded_time(text, Duration::from_secs(1), Duration::ZERO..=most)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{bounded_time, seconds_up_to};

    #[test]
    fn a_time_out_of_bounds_is_refused_with_the_bound() {
        let minute = Duration::from_secs(60);
        assert_eq!(seconds_up_to("1m", minute), Ok(minute));
        assert_eq!(seconds_up_to("30", minute), Ok(minute / 2));
        assert_eq!(seconds_up_to("2m", minute), Err("2m is more than 1m".to_owned()));
        let bounds = Duration::from_millis(500)..=minute;
        let error = bounded_time("0.4", Duration::from_secs(1), bounds);
        assert_eq!(error, Err("0.4 is less than 500ms".to_owned()));
        assert!(seconds_up_to("soon", minute).unwrap_err().contains("15m"));
    }
}
