//! The `key=value` words at the end of a desc line.

use super::{DescEntry, MAX_NAME_UNITS, MAX_PARTITIONS, Problem};
use crate::fs_type::FsType;

/// Every key, in the order in which a line is written.
pub(super) const KEYS: [&str; 7] = ["fs", "mount", "label", "options", "name", "number", "attrs"];

/// GPT attributes by name and bit (UEFI 2.10 table 5.8, and the Discoverable Partitions Specification).
pub(super) const ATTRIBUTES: [(&str, u32); 7] = [
    ("required", 0),
    ("no-block-io", 1),
    ("legacy-boot", LEGACY_BOOT_BIT),
    ("grow-fs", 59),
    ("read-only", 60),
    ("hidden", 62),
    ("no-auto", 63),
];

/// The attribute bit that `boot` means on GPT.
pub(crate) const LEGACY_BOOT_BIT: u32 = 2;

/// Applies one word after the size to `entry`.
pub(super) fn apply(entry: &mut DescEntry, word: &str) -> Result<(), Problem> {
    let Some((key, value)) = word.split_once('=') else {
        if !word.eq_ignore_ascii_case("boot") {
            return Err(Problem::Trailing(word.to_owned()));
        }
        let again = std::mem::replace(&mut entry.boot, true);
        return if again {
            Err(Problem::RepeatedKey("boot".to_owned()))
        } else {
            Ok(())
        };
    };
    let Some(key) = KEYS.into_iter().find(|known| known.eq_ignore_ascii_case(key)) else {
        return Err(Problem::UnknownKey(key.to_owned()));
    };
    if value.is_empty() {
        return Err(Problem::EmptyValue(key.to_owned()));
    }
    let repeated = match key {
        "fs" => entry.fs.replace(file_system(value)?).is_some(),
        "mount" => entry.mount.replace(mount_point(value)?).is_some(),
        "label" => entry.label.replace(value.to_owned()).is_some(),
        "options" => entry.options.replace(value.to_owned()).is_some(),
        "name" => entry.name.replace(partition_name(value)?).is_some(),
        "number" => entry.number.replace(number(value)?).is_some(),
        _ => std::mem::replace(&mut entry.attrs, attributes(value)?) != 0,
    };
    if repeated {
        Err(Problem::RepeatedKey(format!("{key}=")))
    } else {
        Ok(())
    }
}

/// Checks the words of one line together.
pub(super) fn check_line(entry: &DescEntry) -> Result<(), Problem> {
    if entry.kind.is_extended() {
        let given = [
            ("fs=", entry.fs.is_some()),
            ("mount=", entry.mount.is_some()),
            ("label=", entry.label.is_some()),
            ("options=", entry.options.is_some()),
            ("name=", entry.name.is_some()),
            ("attrs=", entry.attrs != 0),
        ];
        if let Some((key, _)) = given.into_iter().find(|(_, given)| *given) {
            return Err(Problem::OnExtended(key));
        }
    }
    let swap = entry.fs.map_or(entry.is_swap(), |fs| !fs.is_mountable());
    if swap && entry.mount.is_some() {
        return Err(Problem::MountedSwap);
    }
    entry
        .label
        .as_deref()
        .map_or(Ok(()), |label| check_label(label, entry.fs))
}

/// A label for a file system that is not named here has room in the one that takes the longest.
fn check_label(label: &str, fs: Option<FsType>) -> Result<(), Problem> {
    let longest = FsType::ALL.into_iter().map(FsType::max_label_bytes).max();
    let max = fs.map(FsType::max_label_bytes).or(longest).unwrap_or(0);
    if label.len() <= max {
        return Ok(());
    }
    let label = label.to_owned();
    Err(match fs {
        Some(fs) => Problem::LongLabel { label, fs, max },
        None => Problem::EndlessLabel { label, max },
    })
}

fn file_system(value: &str) -> Result<FsType, Problem> {
    let lower = value.to_ascii_lowercase();
    lower.parse().map_err(|_| Problem::UnknownFs(value.to_owned()))
}

/// Returns an absolute path without `.` and `..` in one spelling, so that two lines can be compared.
fn mount_point(value: &str) -> Result<String, Problem> {
    let parts = value
        .split('/')
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>();
    if !value.starts_with('/') || parts.iter().any(|part| matches!(*part, "." | "..")) {
        return Err(Problem::BadMount(value.to_owned()));
    }
    Ok(format!("/{}", parts.join("/")))
}

fn partition_name(value: &str) -> Result<String, Problem> {
    if value.encode_utf16().count() > MAX_NAME_UNITS {
        return Err(Problem::LongName(value.to_owned()));
    }
    Ok(value.to_owned())
}

fn number(value: &str) -> Result<u32, Problem> {
    let plain = value.bytes().all(|b| b.is_ascii_digit());
    let number = value
        .parse()
        .ok()
        .filter(|number| plain && (1..=MAX_PARTITIONS).contains(number));
    number.ok_or_else(|| Problem::BadNumber(value.to_owned()))
}

fn attributes(value: &str) -> Result<u64, Problem> {
    value.split(',').try_fold(0, |bits, word| {
        let named = ATTRIBUTES
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, bit)| *bit);
        let bit = named.or_else(|| word.parse().ok().filter(|bit| *bit < 64));
        bit.map(|bit| bits | 1 << bit)
            .ok_or_else(|| Problem::UnknownAttribute(word.to_owned()))
    })
}

/// Returns the words that [`attributes`] reads back as `bits`.
pub(super) fn attribute_words(bits: u64) -> String {
    let word = |bit: u32| {
        let named = ATTRIBUTES.iter().find(|(_, named)| *named == bit);
        named.map_or_else(|| bit.to_string(), |(name, _)| (*name).to_owned())
    };
    (0..64)
        .filter(|bit| bits >> bit & 1 == 1)
        .map(word)
        .collect::<Vec<_>>()
        .join(",")
}
