//! The size column of a desc line: `500`, `512M`, `1.5T`, `35%`, `fill`.

use std::fmt;
use std::str::FromStr;

use ka_units::{SizeError, scaled, size_text};
use serde::{Deserialize, Serialize};

use super::Problem;

/// Bytes in a MiB, the unit and the alignment of every planned partition.
pub const MIB: u64 = 1 << 20;

/// Above this many MiB nobody reads a number of MiB at a glance.
const MANY_MIB: u64 = 10 << 10;

/// A number of MiB for people; a large one has GiB or TiB beside it: `2689027 MiB (2.6 TiB)`.
pub fn mib_text(mib: u64) -> String {
    let (unit, name) = if mib >= 1 << 20 {
        (1 << 20, "TiB")
    } else {
        (1 << 10, "GiB")
    };
    if mib < MANY_MIB {
        return format!("{mib} MiB");
    }
    let tenths = u128::from(mib) * 10 / unit;
    format!("{mib} MiB ({}.{} {name})", tenths / 10, tenths % 10)
}

/// The largest size in bytes that a line may ask for: the kernel's own limit for a file offset.
const MAX_BYTES: u64 = i64::MAX.cast_unsigned();

/// Size of a partition as a desc line gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Size {
    /// A plain number: whole MiB, as in the original KA method.
    Mib(u64),
    /// A number with a unit, in bytes; a plan rounds it up to whole MiB.
    Bytes(u64),
    /// A share of the disk's usable space.
    Percent(Percent),
    /// `fill`: all space that is left.
    Fill,
}

/// A share in hundredths of a percent, so that `12.5%` is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Percent {
    /// Hundredths of a percent; 10 000 is the whole.
    pub hundredths: u32,
}

impl Percent {
    /// The whole, in hundredths of a percent.
    pub const WHOLE: u32 = 10_000;

    /// Returns this share of `whole`, rounded down.
    pub fn of(self, whole: u64) -> u64 {
        let share = u128::from(whole) * u128::from(self.hundredths) / u128::from(Self::WHOLE);
        u64::try_from(share).unwrap_or(u64::MAX)
    }
}

impl FromStr for Size {
    type Err = Problem;

    fn from_str(word: &str) -> Result<Self, Problem> {
        Self::parse(word)
    }
}

impl Size {
    fn parse(word: &str) -> Result<Self, Problem> {
        if word.eq_ignore_ascii_case("fill") {
            return Ok(Self::Fill);
        }
        if let Some(number) = word.strip_suffix('%') {
            return Self::parse_percent(word, number);
        }
        let bytes = match ka_units::size(word, MIB) {
            Ok(0) => return Err(Problem::ZeroSize(word.to_owned())),
            Ok(bytes) if bytes <= MAX_BYTES => bytes,
            Ok(_) | Err(SizeError::TooLarge) => return Err(Problem::HugeSize(word.to_owned())),
            Err(SizeError::Decimal(unit)) => {
                let number = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
                return Err(Problem::DecimalUnit {
                    word: word.to_owned(),
                    meant: format!("{number}{unit}"),
                });
            }
            Err(SizeError::NoSize) => return Err(Problem::BadSize(word.to_owned())),
        };
        Ok(if word.ends_with(|c: char| c.is_ascii_digit()) {
            Self::Mib(bytes / MIB)
        } else {
            Self::Bytes(bytes)
        })
    }

    fn parse_percent(word: &str, number: &str) -> Result<Self, Problem> {
        let bad = || Problem::BadSize(word.to_owned());
        let hundredths = scaled(number, 100).ok_or_else(bad)?;
        let exact = number
            .split_once('.')
            .is_none_or(|(_, fraction)| fraction.len() <= 2);
        let hundredths = u32::try_from(hundredths).ok().filter(|_| exact).ok_or_else(bad)?;
        match hundredths {
            0 => Err(Problem::ZeroSize(word.to_owned())),
            1..=Percent::WHOLE => Ok(Self::Percent(Percent { hundredths })),
            _ => Err(Problem::PercentOver100(word.to_owned())),
        }
    }

    /// Returns the size in whole MiB, rounded up; `None` if it depends on the disk.
    pub fn fixed_mib(self) -> Option<u64> {
        match self {
            Self::Mib(mib) => Some(mib),
            Self::Bytes(bytes) => Some(bytes.div_ceil(MIB)),
            Self::Percent(_) | Self::Fill => None,
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Mib(mib) => write!(f, "{mib}"),
            Self::Bytes(bytes) => f.write_str(&size_text(bytes)),
            Self::Percent(Percent { hundredths }) => {
                let (whole, rest) = (hundredths / 100, hundredths % 100);
                match rest {
                    0 => write!(f, "{whole}%"),
                    _ if rest % 10 == 0 => write!(f, "{whole}.{}%", rest / 10),
                    _ => write!(f, "{whole}.{rest:02}%"),
                }
            }
            Self::Fill => f.write_str("fill"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_mib_and_units_are_binary() {
        assert_eq!(Size::parse("500"), Ok(Size::Mib(500)));
        assert_eq!(Size::parse("512M"), Ok(Size::Bytes(512 * MIB)));
        assert_eq!(Size::parse("20GiB"), Ok(Size::Bytes(20 << 30)));
        assert_eq!(Size::parse("1.5T"), Ok(Size::Bytes(3 << 39)));
        assert_eq!(
            Size::parse("12.5%"),
            Ok(Size::Percent(Percent { hundredths: 1250 }))
        );
        for word in ["fill", "FILL"] {
            assert_eq!(Size::parse(word), Ok(Size::Fill));
        }
        assert_eq!(Size::parse("5g"), Ok(Size::Bytes(5 << 30)));
    }

    #[test]
    fn a_size_that_is_no_whole_mib_is_rounded_up() {
        assert_eq!(Size::parse("1025K").map(Size::fixed_mib), Ok(Some(2)));
        assert_eq!(Size::parse("0.001G").map(Size::fixed_mib), Ok(Some(2)));
    }

    #[test]
    fn large_sizes_are_told_in_two_units() {
        assert_eq!(mib_text(503), "503 MiB");
        assert_eq!(mib_text(20 << 10), "20480 MiB (20.0 GiB)");
        assert_eq!(mib_text(2_689_027), "2689027 MiB (2.5 TiB)");
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for word in [
            "", "x", "-5", "1.5", "5X", ".5G", "5.G", "1.2345G", "Filled", "1e3", "5 G", "iB", "%", "1.234%",
        ] {
            assert_eq!(
                Size::parse(word),
                Err(Problem::BadSize(word.to_owned())),
                "{word}"
            );
        }
        assert!(matches!(Size::parse("0"), Err(Problem::ZeroSize(_))));
        assert!(matches!(Size::parse("0.0%"), Err(Problem::ZeroSize(_))));
        assert!(matches!(Size::parse("100.01%"), Err(Problem::PercentOver100(_))));
        assert!(matches!(Size::parse("5GB"), Err(Problem::DecimalUnit { .. })));
        assert!(matches!(
            Size::parse("99999999999999999999"),
            Err(Problem::HugeSize(_))
        ));
    }

    #[test]
    fn a_size_reads_back_as_it_was_written() {
        for word in [
            "1", "29996", "512M", "1536G", "3T", "7K", "9B", "35%", "0.5%", "12.05%", "fill",
        ] {
            assert_eq!(Size::parse(word).unwrap().to_string(), word);
        }
    }
}
