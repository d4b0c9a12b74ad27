//! The last search for names of the golden node. Every text of `/etc`, `/boot`, the EFI system partition and
//! the units is searched for golden ids and names. Names that no step has translated are at least reported.
//!
//! It knows classes of names only by its [`Needle`]s, which may be of any kind.

use std::collections::BTreeSet;

use ka_disk::fstab::unescaped_hex;

use super::{ids, spelling, units};
use crate::boot_entries;
use crate::error::PostError;
use crate::facts::Facts;
use crate::files::{Files, Kind};
use crate::machine_id;

/// The directories that are searched, beside the file systems that firmware reads.
const PLACES: [&str; 4] = ["/etc", "/boot", "/efi", "/esp"];
/// Longest text that is searched, in bytes. Texts written by hand are shorter.
const MAX_TEXT_BYTES: usize = 1 << 20;
/// GRUB's program with its modules and the name of its root is half that long. Bytes.
const MAX_PROGRAM_BYTES: usize = 8 << 20;
const MAX_DEPTH: usize = 12;
const MAX_FILES: usize = 50_000;
/// Programs and scripts that hold a loader's names, though they are no texts.
const PROGRAMS: [&str; 2] = [".efi", ".scr"];
/// The most finds that are told of one file.
const MAX_NAMED: usize = 3;

/// A name that only the golden node should have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Needle {
    /// Its class, in the field's word: `UUID`, `PARTUUID`, `MAC address`.
    pub class: &'static str,
    /// The name itself, at least six characters long; found in either letter case.
    pub text: String,
}

impl Needle {
    /// Returns a name of this class.
    #[must_use]
    pub fn new(class: &'static str, text: &str) -> Self {
        Self {
            class,
            text: text.to_ascii_lowercase(),
        }
    }
}

/// A file that still names the golden node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remnant {
    /// The file, as a path in the clone.
    pub path: String,
    /// The finds in it, the first few.
    pub found: Vec<Needle>,
}

impl std::fmt::Display for Remnant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let found: Vec<String> = self
            .found
            .iter()
            .map(|needle| format!("{} {}", needle.class, needle.text))
            .collect();
        write!(
            f,
            "{} still names the golden node ({}): correct it in a post-restore hook if it matters",
            self.path,
            found.join(", ")
        )
    }
}

/// Returns the names of the golden node's disks, partitions, file systems and volumes, and its machine-id if
/// `golden` has it, without the names that the clone has, too.
#[must_use]
pub fn needles(facts: &Facts) -> Vec<Needle> {
    let mut all = BTreeSet::new();
    let mut add = |class, text: &str| {
        if text.len() >= MIN_LEN {
            all.insert(Needle::new(class, text));
        }
    };
    let mapped = facts.devices.iter().chain(&facts.bare).map(|map| &map.golden);
    for device in mapped.chain(facts.known.iter().map(|known| &known.device)) {
        for (class, id) in [("UUID", &device.uuid), ("PARTUUID", &device.partuuid)] {
            if let Some(id) = id.as_deref().filter(|id| ids::is_long_enough(id)) {
                add(class, id);
            }
        }
        for name in device.aliases.iter().chain([&device.path]) {
            match name.strip_prefix("/dev/disk/") {
                // The name of the disk itself, as smartd or multipath may have it.
                Some(link) if link.len() >= MIN_LINK_LEN => {
                    add("device", link.split_once('/').map_or(link, |(_, name)| name));
                }
                Some(link) => add("device", link),
                None if spelling::volume(name).is_some() => add("volume", name),
                // A script that formats or mounts it would take another disk of the machine.
                None if spelling::is_kernel_name(name) && name.len() > "/dev/sd".len() => add("device", name),
                None => {}
            }
        }
    }
    let links = facts.known.iter().flat_map(|known| &known.device.aliases);
    for serial in links.flat_map(|alias| serials(alias)) {
        add("disk serial", serial);
    }
    for known in &facts.known {
        // A copied table keeps its id with --keep-uuids; a disk that was never given one has zeros.
        let id = known.table_id.as_deref().map(|id| id.trim_start_matches("0x"));
        if let Some(id) = id.filter(|id| !facts.keep_uuids && id.chars().any(|c| !matches!(c, '0' | '-'))) {
            add("disk id", id);
        }
        if let Some(("linux_raid_member", uuid)) = known.content.as_deref().zip(known.device.uuid.as_deref())
        {
            add("array", &grouped(uuid));
        }
    }
    let own: BTreeSet<String> = own(facts);
    all.into_iter()
        .filter(|needle| !own.contains(&needle.text))
        .collect()
}

/// Returns udev's `ID_SERIAL`, `ID_SERIAL_SHORT` and `ID_WWN` of a disk with this link: `MODEL_SERIAL` and
/// `SERIAL` of `/dev/disk/by-id/ata-MODEL_SERIAL`.
fn serials(alias: &str) -> impl Iterator<Item = &str> {
    const KINDS: [&str; 8] = ["ata", "scsi", "nvme", "usb", "virtio", "wwn", "mmc", "ieee1394"];
    let link = alias
        .strip_prefix("/dev/disk/by-id/")
        .filter(|link| !link.contains("-part"));
    let id = link.and_then(|link| {
        let (kind, id) = link.split_once('-')?;
        KINDS.contains(&kind).then(|| id.trim_end_matches("-0:0"))
    });
    let short = id.and_then(|id| id.rsplit_once('_')).map(|(_, serial)| serial);
    let is_one = |id: &&str| id.len() >= MIN_SERIAL_LEN && id.contains(|c: char| c.is_ascii_digit());
    id.into_iter().chain(short).filter(is_one)
}

/// A shorter one may be a word or a number of something else. Bytes.
const MIN_SERIAL_LEN: usize = 8;
const MIN_LEN: usize = 6;
/// A shorter name below /dev/disk may be a word of the language. Bytes.
const MIN_LINK_LEN: usize = 16;

/// mdadm's way to write a UUID: `0a0a0a0a:1b1b1b1b:…`.
fn grouped(uuid: &str) -> String {
    let digits: Vec<char> = uuid.chars().filter(|c| *c != '-').collect();
    let groups: Vec<String> = digits.chunks(8).map(|group| group.iter().collect()).collect();
    groups.join(":")
}

/// The names that are the clone's own too: kept UUIDs, raw copies, the same label.
fn own(facts: &Facts) -> BTreeSet<String> {
    let of = facts
        .devices
        .iter()
        .chain(&facts.bare)
        .map(|map| &map.clone)
        .chain(&facts.partitions);
    let ids = of.flat_map(|device| [device.uuid.clone(), device.partuuid.clone()]);
    let paths = facts
        .partitions
        .iter()
        .map(|device| &device.path)
        .chain(facts.disks.iter().map(|disk| &disk.path));
    ids.flatten()
        .chain(paths.cloned())
        .map(|name| name.to_ascii_lowercase())
        .collect()
}

/// Searches everything for `needles`.
///
/// # Errors
/// A file cannot be read.
pub fn search(files: &dyn Files, facts: &Facts, needles: &[Needle]) -> Result<Vec<Remnant>, PostError> {
    let mut paths = Vec::new();
    let firmware = facts
        .mounts
        .iter()
        .filter(|mount| mount.fstype == "vfat")
        .map(|mount| mount.path.as_str());
    let places: BTreeSet<&str> = PLACES.into_iter().chain(units::PLACES).chain(firmware).collect();
    for place in places {
        let is_link = std::path::Path::new(place).ancestors().any(|part| {
            part.to_str()
                .is_some_and(|part| part.len() > 1 && files.kind(part) == Some(Kind::Link))
        });
        if !is_link {
            collect(files, place, MAX_DEPTH, &mut paths);
        }
    }
    paths.sort();
    paths.dedup();
    let mut left = Vec::new();
    for path in paths {
        let limit = if is_program(&path) {
            MAX_PROGRAM_BYTES
        } else {
            MAX_TEXT_BYTES
        };
        let read = files
            .read_part(&path, 0, limit + 1)
            .map_err(PostError::reading(&path))?;
        let bytes = read.filter(|bytes| bytes.len() <= limit).unwrap_or_default();
        if !is_program(&path) && bytes.contains(&0) {
            continue;
        }
        let mut found = found_in(&bytes, needles);
        // Boot entries and their directories go on being named for it.
        found.retain(|needle| needle.class != MACHINE_ID || !is_named_for_machine_id(&path));
        if !found.is_empty() {
            left.push(Remnant { path, found });
        }
    }
    for (path, line) in boot_entries::unified_command_lines(files)? {
        let found = found_in(line.as_bytes(), needles);
        if !found.is_empty() && !left.iter().any(|left| left.path == path) {
            left.push(Remnant { path, found });
        }
    }
    Ok(left)
}

const MACHINE_ID: &str = "machine-id";

/// kernel-install(8) names entries and directories for the machine-id of their first installation.
fn is_named_for_machine_id(path: &str) -> bool {
    !path.starts_with("/etc/") || path == "/etc/kernel/entry-token"
}

fn collect(files: &dyn Files, dir: &str, depth: usize, paths: &mut Vec<String>) {
    for name in files.names(dir) {
        let path = format!("{dir}/{name}");
        match files.kind(&path) {
            Some(Kind::Dir) if depth > 0 => collect(files, &path, depth - 1, paths),
            Some(Kind::File) if paths.len() < MAX_FILES => paths.push(path),
            _ => {}
        }
    }
}

fn is_program(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    PROGRAMS.iter().any(|end| path.ends_with(end))
}

/// Returns the needles in a text, outside comments. Escapes of systemd's and udev's are undone.
fn found_in(bytes: &[u8], needles: &[Needle]) -> Vec<Needle> {
    let mut text = String::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(line);
        if !super::text::is_comment(&line) {
            text.push_str(&line.to_ascii_lowercase());
        }
    }
    let unescaped = text.contains("\\x").then(|| {
        // In the name of a unit a hyphen is a slash.
        let plain = unescaped_hex(&text);
        format!("{plain}\n{}", unescaped_hex(&text.replace('-', "/")))
    });
    let is_in = |needle: &&Needle| {
        contains_whole(&text, &needle.text)
            || unescaped
                .as_deref()
                .is_some_and(|text| contains_whole(text, &needle.text))
    };
    needles.iter().filter(is_in).take(MAX_NAMED).cloned().collect()
}

/// True if `name` is there, and not as a part of a longer run of letters and digits.
fn contains_whole(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let is_part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        !is_part(text[..at].chars().next_back()) && !is_part(text[at + name.len()..].chars().next())
    })
}

/// The golden machine-id, read before the clone gets its own; none where there is none to know.
///
/// # Errors
/// It cannot be read.
pub fn machine_id(files: &dyn Files) -> Result<Option<Needle>, PostError> {
    let text = crate::files::text_or_empty(files, machine_id::FILE)?;
    let id = text.trim();
    let is_id = id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit());
    Ok(is_id.then(|| Needle::new(MACHINE_ID, id)))
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
