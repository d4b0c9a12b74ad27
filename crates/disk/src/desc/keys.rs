//! The `key=value` words at the end of a desc line.

use super::{DescEntry, MAX_NAME_UNITS, MAX_PARTITIONS, Problem};
use crate::spec::FsType;

/// Every key, in the order in which a line is written.
pub(super) const KEYS: [&str; 7] = ["fs", "mount", "label", "options", "name", "number", "attrs"];

/// GPT attributes by name: UEFI 2.10 table 5.8, and the Discoverable Partitions Specification.
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

/// Takes one word after the size into `entry`.
pub(super) fn apply(entry: &mut DescEntry, word: &str) -> Result<(), Problem> {
    let Some((key, value)) = word.split_once('=') else {
        if word != "boot" {
            return Err(Problem::Trailing(word.to_owned()));
        }
        let again = std::mem::replace(&mut entry.boot, true);
        return if again {
            Err(Problem::RepeatedKey("boot".to_owned()))
        } else {
            Ok(())
        };
    };
    if !KEYS.contains(&key) {
        return Err(Problem::UnknownKey(key.to_owned()));
    }
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

/// Checks what the words of one line mean together.
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
    if let (Some(fs), Some(label)) = (entry.fs, &entry.label) {
        let max = fs.max_label_bytes();
        if label.len() > max {
            return Err(Problem::LongLabel {
                label: label.clone(),
                fs,
                max,
            });
        }
    }
    Ok(())
}

fn file_system(value: &str) -> Result<FsType, Problem> {
    value.parse().map_err(|_| Problem::UnknownFs(value.to_owned()))
}

/// An absolute path without `.` and `..`, in one spelling, so that two lines can be compared.
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

/// The words that [`attributes`] reads back as `bits`.
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
