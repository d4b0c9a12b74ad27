//! Names that are written on a device itself, in the two forms that fstab has for them.

use std::fmt;

/// The kinds of such names (fstab(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// UUID of the file system.
    Uuid,
    /// GUID of the partition, or signature and number on MBR.
    PartUuid,
    /// Label of the file system.
    Label,
    /// GPT name of the partition.
    PartLabel,
}

/// A name such as `UUID=x` or `/dev/disk/by-uuid/x`. Displays in the form that it was parsed from, without
/// quotes and escapes that it does not need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaggedName {
    /// Kind of the name.
    pub tag: Tag,
    /// True if it is udev's link below `/dev/disk`, not the form with an equals sign.
    pub is_link: bool,
    /// The name itself, escapes and quotes undone.
    pub value: String,
}

const FORMS: [(Tag, &str, &str); 4] = [
    (Tag::Uuid, "UUID=", "/dev/disk/by-uuid/"),
    (Tag::PartUuid, "PARTUUID=", "/dev/disk/by-partuuid/"),
    (Tag::Label, "LABEL=", "/dev/disk/by-label/"),
    (Tag::PartLabel, "PARTLABEL=", "/dev/disk/by-partlabel/"),
];

impl TaggedName {
    /// Reads the first field of fstab (escapes undone); `None` for every other kind of name.
    #[must_use]
    pub fn parse(spec: &str) -> Option<Self> {
        FORMS.iter().find_map(|(tag, equals, links)| {
            if let Some(value) = spec.strip_prefix(equals) {
                return Some(Self {
                    tag: *tag,
                    is_link: false,
                    value: value.trim_matches(['"', '\'']).to_owned(),
                });
            }
            let name = spec.strip_prefix(links)?;
            Some(Self {
                tag: *tag,
                is_link: true,
                value: unescaped_hex(name),
            })
        })
    }

    /// True if this name means a device whose name of this kind is `have`. Like mount(8), it takes UUIDs in
    /// either letter case, labels only as they are.
    #[must_use]
    pub fn is(&self, have: Option<&str>) -> bool {
        have.is_some_and(|have| match self.tag {
            Tag::Uuid | Tag::PartUuid => have.eq_ignore_ascii_case(&self.value),
            Tag::Label | Tag::PartLabel => have == self.value,
        })
    }
}

impl fmt::Display for TaggedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (tag, equals, links) in FORMS {
            match (tag == self.tag, self.is_link) {
                (true, false) => write!(f, "{equals}{}", self.value)?,
                (true, true) => write!(f, "{links}{}", udev_escaped(&self.value))?,
                (false, _) => {}
            }
        }
        Ok(())
    }
}

/// Escapes a name as udev does for its links: everything becomes `\xNN` but letters, digits, `#+-.:=@_` and
/// non-ASCII (systemd, `src/shared/device-nodes.c`).
fn udev_escaped(value: &str) -> String {
    let mut name = String::with_capacity(value.len());
    for c in value.chars() {
        if c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c) || !c.is_ascii() {
            name.push(c);
        } else {
            name.push_str(&format!("\\x{:02x}", u32::from(c)));
        }
    }
    name
}

/// Undoes the escapes `\xNN` of udev's and systemd's names.
#[must_use]
pub fn unescaped_hex(name: &str) -> String {
    let mut value = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.strip_prefix(b"x").and_then(|digits| digits.get(..2));
        let escaped =
            digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match (byte, escaped) {
            (b'\\', Some(plain)) => {
                value.push(plain);
                rest = &after[3..];
            }
            _ => {
                value.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&value).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_written() {
        for spec in [
            "UUID=aB-c",
            "PARTUUID=deadbeef-02",
            "LABEL=my disk",
            "PARTLABEL=x",
            "/dev/disk/by-label/my\\x20disk",
        ] {
            assert_eq!(TaggedName::parse(spec).unwrap().to_string(), spec);
        }
        assert_eq!(TaggedName::parse("UUID=\"aB\"").unwrap().to_string(), "UUID=aB");
        assert_eq!(TaggedName::parse("/dev/sda1"), None);
        assert_eq!(TaggedName::parse("/dev/disk/by-id/x"), None);
    }

    #[test]
    fn uuids_are_equal_in_either_letter_case_and_labels_are_not() {
        assert!(TaggedName::parse("UUID=AB").unwrap().is(Some("ab")));
        assert!(!TaggedName::parse("LABEL=AB").unwrap().is(Some("ab")));
        assert!(!TaggedName::parse("LABEL=AB").unwrap().is(None));
    }
}
