//! The form of fstab(5): its lines as fields, with their places in the text.
//!
//! This module only reads, and only the form. [`crate::golden`] decides what a line means for a clone. The
//! postinstall crate rewrites lines; it needs the place of each field to leave the rest as it is.

mod name;

use std::ops::Range;

use ka_host::mountinfo::unescape;

pub use name::{Tag, TaggedName, unescaped_hex};

/// Names of devices that come and go or that boot makes from nothing: optical drives, sticks by the name that
/// mdev gives them, memory.
const NO_DISKS: [&str; 13] = [
    "sr", "scd", "cdrom", "cdrw", "dvd", "dvdrw", "fd", "floppy", "usbdisk", "zram", "ram", "shm", "loop",
];

/// Returns true for a device that comes and goes, which is no disk of the system's own.
#[must_use]
pub fn comes_and_goes(spec: &str) -> bool {
    let name = spec.strip_prefix("/dev/").unwrap_or_default();
    NO_DISKS.iter().any(|known| {
        name.strip_prefix(known)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_lowercase()))
    })
}

/// A line that mounts something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FstabEntry {
    /// Line number, from 1.
    pub line: u32,
    /// First field, escapes undone: a device, `UUID=…`, `server:/path`, `proc`.
    pub spec: String,
    /// Second field, escapes undone: the mount point; `none` or `swap` for swap.
    pub mount_point: String,
    /// Third field: the type, or several separated by commas, or `auto`.
    pub fstype: String,
    /// Fourth field; `defaults` if the line has none.
    pub options: String,
    /// Byte ranges of the fields in the text, without the white space between them: at least the first three.
    pub fields: Vec<Range<usize>>,
}

impl FstabEntry {
    /// True if `name` is among the options, by itself or as `name=value`.
    #[must_use]
    pub fn has_option(&self, name: &str) -> bool {
        self.option_names().any(|found| found == name)
    }

    /// Returns the value of the option `name`, if it has one.
    #[must_use]
    pub fn option_value(&self, name: &str) -> Option<&str> {
        self.options
            .split(',')
            .filter_map(|option| option.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// True if the line describes a swap area.
    #[must_use]
    pub fn is_swap(&self) -> bool {
        self.fstype == "swap"
    }

    fn option_names(&self) -> impl Iterator<Item = &str> {
        self.options
            .split(',')
            .map(|option| option.split_once('=').map_or(option, |(name, _)| name))
    }
}

/// Returns all lines that mount something. Like mount(8), it skips comments, blank lines and lines with fewer
/// than three fields.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<FstabEntry> {
    let mut entries = Vec::new();
    let mut start = 0;
    let mut number = 0u32;
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        number = number.saturating_add(1);
        entries.extend(parse_line(line, start, number));
        start += line.len();
    }
    entries
}

fn parse_line(line: &[u8], start: usize, number: u32) -> Option<FstabEntry> {
    let ranges = field_ranges(line);
    let first = ranges.first()?;
    if line[first.start] == b'#' || ranges.len() < 3 {
        return None;
    }
    let text = |index: usize| ranges.get(index).map(|range| field_text(&line[range.clone()]));
    Some(FstabEntry {
        line: number,
        spec: text(0)?,
        mount_point: text(1)?,
        fstype: text(2)?,
        options: text(3).unwrap_or_else(|| "defaults".to_owned()),
        fields: ranges
            .iter()
            .map(|range| range.start + start..range.end + start)
            .collect(),
    })
}

fn field_text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

/// Returns the byte ranges of the words of a line; spaces and tabs separate them.
fn field_ranges(line: &[u8]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = None;
    for (at, byte) in line.iter().enumerate() {
        match (matches!(byte, b' ' | b'\t' | b'\n' | b'\r'), start) {
            (false, None) => start = Some(at),
            (true, Some(from)) => {
                ranges.push(from..at);
                start = None;
            }
            _ => {}
        }
    }
    ranges.extend(start.map(|from| from..line.len()));
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_are_found_where_they_lie_and_escapes_are_undone() {
        let text =
            b"# root\nUUID=ab-cd  /my\\040disk\text4 defaults,noatime 0 1\n\n  proc /proc proc\nbroken /x\n";
        let entries = parse(text);
        assert_eq!(entries.len(), 2);
        assert_eq!(
            (entries[0].line, entries[0].mount_point.as_str()),
            (2, "/my disk")
        );
        assert_eq!(&text[entries[0].fields[1].clone()], b"/my\\040disk");
        assert_eq!(entries[0].fields.len(), 6);
        assert_eq!((entries[1].line, entries[1].options.as_str()), (4, "defaults"));
    }

    #[test]
    fn options_are_found_by_name() {
        let entries = parse(b"/dev/sda2 /home btrfs rw,subvol=@home,x-systemd.device-timeout=5,noauto 0 0");
        assert!(entries[0].has_option("noauto") && entries[0].has_option("subvol"));
        assert!(!entries[0].has_option("auto"));
        assert_eq!(entries[0].option_value("subvol"), Some("@home"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            for entry in parse(&text) {
                prop_assert!(entry.fields.iter().all(|range| range.end <= text.len()));
            }
        }
    }
}
