//! The size column of a desc line: `500`, `512M`, `1.5T`, `35%`, `fill`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Problem;

/// Bytes in a MiB, the unit and the alignment of every planned partition.
pub const MIB: u64 = 1 << 20;

/// The largest size a line may ask for: the kernel's own limit for a file offset.
const MAX_BYTES: u64 = i64::MAX.cast_unsigned();

/// Digits taken after the decimal point: enough for 1 GiB steps of a TiB.
const MAX_FRACTION_DIGITS: usize = 3;

/// How large a partition is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Size {
    /// A plain number: whole MiB, as in the original.
    Mib(u64),
    /// A number with a unit, in bytes; a plan rounds it up to whole MiB.
    Bytes(u64),
    /// A share of the disk's usable space.
    Percent(Percent),
    /// `fill`: all that is left.
    Fill,
}

/// A share in hundredths of a percent, so that `12.5%` is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Percent {
    /// 10 000 is the whole.
    pub hundredths: u32,
}

impl Percent {
    /// All of it, in hundredths of a percent.
    pub const WHOLE: u32 = 10_000;

    /// This share of `whole`, rounded down.
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
        if word == "fill" {
            return Ok(Self::Fill);
        }
        if let Some(number) = word.strip_suffix('%') {
            return Self::parse_percent(word, number);
        }
        let digits_end = word
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(word.len());
        let (number, unit) = word.split_at(digits_end);
        let bad = || Problem::BadSize(word.to_owned());
        let Some(unit_bytes) = unit_bytes(unit) else {
            return Err(if matches!(unit, "KB" | "MB" | "GB" | "TB" | "kB") {
                Problem::DecimalUnit {
                    word: word.to_owned(),
                    unit: unit[..1].to_uppercase(),
                }
            } else {
                bad()
            });
        };
        if unit.is_empty() && number.contains('.') {
            return Err(bad());
        }
        let scaled = scale(number, unit_bytes).ok_or_else(bad)?;
        if scaled == 0 {
            return Err(Problem::ZeroSize(word.to_owned()));
        }
        let bytes = u64::try_from(scaled)
            .ok()
            .filter(|bytes| *bytes <= MAX_BYTES)
            .ok_or_else(|| Problem::HugeSize(word.to_owned()))?;
        Ok(if unit.is_empty() {
            Self::Mib(bytes / MIB)
        } else {
            Self::Bytes(bytes)
        })
    }

    fn parse_percent(word: &str, number: &str) -> Result<Self, Problem> {
        let bad = || Problem::BadSize(word.to_owned());
        let hundredths = scale(number, 100).ok_or_else(bad)?;
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

    /// The size in whole MiB, rounded up; `None` where it depends on the disk.
    pub fn fixed_mib(self) -> Option<u64> {
        match self {
            Self::Mib(mib) => Some(mib),
            Self::Bytes(bytes) => Some(bytes.div_ceil(MIB)),
            Self::Percent(_) | Self::Fill => None,
        }
    }
}

/// Bytes of a unit as it is written; a bare number is in MiB.
fn unit_bytes(unit: &str) -> Option<u64> {
    match unit.strip_suffix("iB").unwrap_or(unit) {
        "" if unit.is_empty() => Some(MIB),
        "B" => Some(1),
        "K" => Some(1 << 10),
        "M" => Some(MIB),
        "G" => Some(1 << 30),
        "T" => Some(1 << 40),
        _ => None,
    }
}

/// `number` (digits, perhaps a point and up to three more) times `unit`, rounded up.
fn scale(number: &str, unit: u64) -> Option<u128> {
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return None,
        None => (number, ""),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    // 20 digits hold every u64; more would only overflow below.
    if whole.is_empty() || whole.len() > 20 || fraction.len() > MAX_FRACTION_DIGITS {
        return None;
    }
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let denominator = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let numerator: u128 = format!("{whole}{fraction}").parse().ok()?;
    Some((numerator * u128::from(unit)).div_ceil(denominator))
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Mib(mib) => write!(f, "{mib}"),
            Self::Bytes(bytes) => {
                let units = [
                    (1 << 40, "T"),
                    (1 << 30, "G"),
                    (MIB, "M"),
                    (1 << 10, "K"),
                    (1, "B"),
                ];
                let (unit, name) = units
                    .into_iter()
                    .find(|(unit, _)| bytes.is_multiple_of(*unit))
                    .unwrap_or((1, "B"));
                write!(f, "{}{name}", bytes / unit)
            }
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
        assert_eq!(Size::parse("fill"), Ok(Size::Fill));
    }

    #[test]
    fn a_size_that_is_no_whole_mib_is_rounded_up() {
        assert_eq!(Size::parse("1025K").map(Size::fixed_mib), Ok(Some(2)));
        assert_eq!(Size::parse("0.001G").map(Size::fixed_mib), Ok(Some(2)));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for word in [
            "", "x", "-5", "1.5", "5X", ".5G", "5.G", "1.2345G", "Fill", "1e3", "5 G", "iB", "%", "1.234%",
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
