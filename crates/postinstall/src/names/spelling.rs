//! Forms in which a device is named, and what can be told from a name alone.

use std::borrow::Cow;

use ka_disk::fstab::{TaggedName, unescaped_hex};

/// The characters behind which a name may begin in running text.
const BEGINNINGS: [&str; 6] = ["UUID=", "PARTUUID=", "LABEL=", "PARTLABEL=", "ID=", "/dev/"];

/// Directories below /dev that hold no volumes of a volume group.
const NO_GROUPS: [&str; 27] = [
    "block",
    "bsg",
    "bus",
    "char",
    "cpu",
    "disk",
    "dma_heap",
    "dri",
    "fd",
    "hugepages",
    "infiniband",
    "input",
    "mapper",
    "md",
    "mqueue",
    "net",
    "ntsync",
    "pktcdvd",
    "pts",
    "serial",
    "shm",
    "snd",
    "usb",
    "v4l",
    "vfio",
    "virtio-ports",
    "log",
];

/// Beginnings of the kernel's names of disks whose rest is letters, then perhaps a number.
const LETTERED: [&str; 10] = ["sd", "hd", "vd", "xvd", "ubd", "dasd", "rssd", "fio", "ub", "skd"];
/// Beginnings whose rest is a number, then perhaps a partition.
const NUMBERED: [&str; 13] = [
    "nvme", "mmcblk", "md", "dm-", "nbd", "rbd", "bcache", "pmem", "drbd", "zd", "loop", "mtdblock",
    "ubiblock",
];
/// Directories of disks behind old RAID controllers and network drivers.
const OLD: [&str; 4] = ["cciss/", "ida/", "rd/", "etherd/"];

/// Returns a name without quotes around it or its value, and without doubled slashes or `.` in a path.
pub(crate) fn plain(name: &str) -> Cow<'_, str> {
    let unquoted = name.trim_matches(['"', '\'']);
    if let Some(at) = unquoted
        .find('=')
        .filter(|_| TaggedName::parse(unquoted).is_some())
    {
        let value = unquoted[at + 1..].trim_matches(['"', '\'', '\\']);
        return Cow::Owned(format!("{}={value}", &unquoted[..at]));
    }
    if unquoted.starts_with("//dev/") || (unquoted.starts_with("/dev/") && needs_tidying(unquoted)) {
        let mut parts: Vec<&str> = Vec::new();
        for part in unquoted.split('/').filter(|part| !matches!(*part, "" | ".")) {
            if part == ".." {
                parts.pop();
            } else {
                parts.push(part);
            }
        }
        return Cow::Owned(format!("/{}", parts.join("/")));
    }
    Cow::Borrowed(unquoted)
}

fn needs_tidying(path: &str) -> bool {
    path.contains("//") || path.contains("/./") || path.contains("/../")
}

/// Returns true for a name of a disk, a partition or a volume. It is false for a terminal, a drive for discs,
/// or a device that is made from nothing at boot.
pub(crate) fn is_device(name: &str) -> bool {
    if TaggedName::parse(name).is_some() || name.strip_prefix("ID=").is_some_and(|id| !id.is_empty()) {
        return true;
    }
    name.starts_with("/dev/disk/") && name.len() > "/dev/disk/".len()
        || name.starts_with("/dev/block/")
        || volume(name).is_some()
        || is_kernel_name(name)
}

/// Returns true for a name that no other disk has, by its contents or by its kind.
pub(crate) fn is_lasting(name: &str) -> bool {
    let name = plain(name);
    TaggedName::parse(&name).is_some() || name.starts_with("/dev/disk/by-id/") || name.starts_with("ID=")
}

/// `/dev/sda2`: a name that another disk may have tomorrow.
pub(crate) fn is_kernel_name(name: &str) -> bool {
    let Some(name) = name.strip_prefix("/dev/") else {
        return false;
    };
    let lettered = LETTERED.iter().any(|start| {
        name.strip_prefix(start).is_some_and(|rest| {
            let digits = rest.trim_start_matches(|c: char| c.is_ascii_lowercase());
            digits.len() < rest.len() && digits.chars().all(|c| c.is_ascii_digit())
        })
    });
    let numbered = || {
        NUMBERED.iter().any(|start| {
            name.strip_prefix(start).is_some_and(|rest| {
                let rest = rest.strip_prefix("_d").unwrap_or(rest);
                rest.starts_with(|c: char| c.is_ascii_digit())
                    && rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            })
        })
    };
    let array = name.strip_prefix("md/").is_some_and(|rest| !rest.is_empty());
    lettered
        || numbered()
        || array
        || OLD
            .iter()
            .any(|dir| name.starts_with(dir) && name.len() > dir.len())
}

/// Returns the mapped device that `/dev/mapper/NAME` or `/dev/GROUP/VOLUME` is, by the name it has in
/// `/dev/mapper` (lvm(8): hyphens are doubled).
pub(crate) fn volume(name: &str) -> Option<String> {
    let rest = name.strip_prefix("/dev/")?;
    if let Some(mapped) = rest.strip_prefix("mapper/") {
        return (!mapped.is_empty() && mapped != "control").then(|| mapped.to_owned());
    }
    let (group, volume) = rest.split_once('/')?;
    let is_group = !group.is_empty()
        && !NO_GROUPS.contains(&group)
        && !OLD.iter().any(|dir| dir.trim_end_matches('/') == group)
        && !volume.is_empty()
        && !volume.contains('/');
    is_group.then(|| mapped(group, volume))
}

/// Returns the name in `/dev/mapper` of a volume of a group.
pub(crate) fn mapped(group: &str, volume: &str) -> String {
    format!("{}-{}", group.replace('-', "--"), volume.replace('-', "--"))
}

/// Returns the beginning of the next name: at a tag or at `/dev/`, not in the middle of a word
/// (`rd.luks.UUID=`, `/sys/dev/`).
pub(crate) fn next_name(text: &str) -> Option<usize> {
    let begins = |at: usize| {
        let inside = text[..at]
            .chars()
            .next_back()
            .is_some_and(|before| before.is_ascii_alphanumeric() || matches!(before, '_' | '.' | '/' | '-'));
        !inside
            && BEGINNINGS
                .iter()
                .any(|beginning| text[at..].starts_with(beginning))
    };
    text.char_indices().map(|(at, _)| at).find(|at| begins(*at))
}

/// Returns the length of the name at the beginning of `text`. A value in quotes of its own is part of it.
pub(crate) fn name_len(text: &str) -> usize {
    if let Some(at) = text.find('=').filter(|_| !text.starts_with('/')) {
        let value = &text[at + 1..];
        let quoted = value.trim_start_matches('\\');
        if let Some(quote) = quoted.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            let open = at + 1 + (value.len() - quoted.len()) + 1;
            let inner = &text[open..];
            if let Some(close) = inner
                .find(quote)
                .filter(|close| *close > 0 && !inner[..*close].contains('\n'))
            {
                return open + close + 1;
            }
        }
    }
    let ends = |c: char| {
        c.is_whitespace()
            || matches!(
                c,
                '"' | '\'' | ',' | ')' | ';' | '`' | '}' | '|' | '&' | '>' | '<' | ']'
            )
    };
    let mut end = text.find(ends).unwrap_or(text.len());
    // A backslash begins one of udev's escapes (`\x20`), or ends the line.
    if let Some(at) = text[..end].find('\\') {
        let escaped = text[at..]
            .strip_prefix("\\x")
            .is_some_and(|rest| rest.len() >= 2 && rest.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit));
        if !escaped {
            end = at;
        }
    }
    end
}

/// systemd's name of a path in the name of a unit: `/dev/disk/by-uuid/x` → `dev-disk-by\x2duuid-x`
/// (systemd.unit(5), "String Escaping for Inclusion in Unit Names").
pub(crate) fn unit_escaped(path: &str) -> String {
    let trimmed = path.trim_matches('/');
    if trimmed.is_empty() {
        return "-".to_owned();
    }
    let mut name = String::with_capacity(trimmed.len() + 16);
    for (at, byte) in trimmed.bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if at == 0 => name.push_str("\\x2e"),
            _ if byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'.') => {
                name.push(char::from(byte))
            }
            _ => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    name
}

/// Returns the path that such a name stands for.
pub(crate) fn unit_unescaped(name: &str) -> String {
    if name == "-" {
        return "/".to_owned();
    }
    let slashes = name.replace('-', "/");
    format!("/{}", unescaped_hex(&slashes))
}
