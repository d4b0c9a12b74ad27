//! Sizes, rates and times as the operator reads them. All units are binary: the original's "Megs" are MiB.

use std::time::Duration;

/// Formats bytes in the largest unit that leaves a number of at least one: `792.0 MiB`, `17 B`.
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => format!("{} {unit}", tenths(bytes, *shift)),
        None => format!("{bytes} B"),
    }
}

/// Returns whole MiB, rounded down, as the original's "Total data sent = 792 Megs".
pub fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

/// Formats MiB a second with three decimals, as the original's throughput line. 0 for no time at all.
pub fn throughput(bytes: u64, took: Duration) -> String {
    let milliseconds = took.as_millis().max(1);
    let thousandths = (u128::from(bytes) * 1_000_000 / milliseconds) >> 20;
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

/// Formats seconds with three decimals: `69.904`.
pub fn seconds(took: Duration) -> String {
    format!("{}.{:03}", took.as_secs(), took.subsec_millis())
}

/// Formats a time span for a progress line: `0:07`, `12:31`, `1:02:09`.
pub fn clock(span: Duration) -> String {
    let (minutes, seconds) = (span.as_secs() / 60, span.as_secs() % 60);
    if minutes < 60 {
        format!("{minutes}:{seconds:02}")
    } else {
        format!("{}:{:02}:{seconds:02}", minutes / 60, minutes % 60)
    }
}

/// Formats a number with its noun: "1 node", "3 nodes".
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

fn tenths(bytes: u64, shift: u32) -> String {
    let tenths = (u128::from(bytes) * 10) >> shift;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{clock, count, seconds, size, throughput};

    #[test]
    fn sizes_use_the_unit_a_reader_would() {
        let cases = [
            (17, "17 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (792 << 20, "792.0 MiB"),
            (5 << 40, "5.0 TiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(u64::MAX), "16777215.9 TiB");
    }

    #[test]
    fn the_seeds_own_run_gives_the_seeds_own_figures() {
        assert_eq!(seconds(Duration::from_millis(69_904)), "69.904");
        assert_eq!(throughput(792 << 20, Duration::from_millis(69_904)), "11.329");
        assert_eq!(throughput(5, Duration::ZERO), "0.004");
    }

    #[test]
    fn spans_and_counts_read_naturally() {
        assert_eq!(clock(Duration::from_secs(7)), "0:07");
        assert_eq!(clock(Duration::from_secs(3729)), "1:02:09");
        assert_eq!(count(1, "node"), "1 node");
        assert_eq!(count(0, "node"), "0 nodes");
    }
}
