//! References to golden disks outside fstab: crypttab, kernel command lines, boot entries, the resume device. Each
//! becomes one to the clone's own disk, in the same manner as before (`UUID=` stays `UUID=`); the rest of each file
//! stays byte for byte.
//!
//! A reference may stand anywhere in a line (`GRUB_CMDLINE_LINUX="resume=UUID=… quiet"`,
//! `cryptdevice=/dev/sda2:root`), so lines are searched, not parsed. Comments are left alone, and so is what names no
//! golden device. `grub.cfg` is not among the files: it is made anew by its own tool.

use ka_disk::fstab::{Tag, TaggedName};

use crate::facts::{Facts, efi_directories};
use crate::files::Files;
use crate::fstab::{DeviceMap, matching};
use crate::plan::{Plan, PostError};

/// Files that may hold references, each by itself.
const FILES: [&str; 14] = [
    "/etc/crypttab",
    "/etc/default/grub",
    "/etc/grub.d/40_custom",
    "/etc/kernel/cmdline",
    "/etc/kernel/uki.conf",
    "/etc/cmdline",
    "/etc/dracut.conf",
    "/etc/initramfs-tools/initramfs.conf",
    "/etc/uswsusp.conf",
    "/etc/lilo.conf",
    "/etc/sysconfig/bootloader",
    "/boot/grub/grubenv",
    "/boot/grub2/grubenv",
    "/boot/grub/custom.cfg",
];

/// Directories of such files, with the ending that counts.
const DIRECTORIES: [(&str, &str); 12] = [
    ("/etc/default/grub.d", ".cfg"),
    ("/etc/kernel/cmdline.d", ".conf"),
    ("/etc/cmdline.d", ".conf"),
    ("/etc/dracut.conf.d", ".conf"),
    ("/etc/initramfs-tools/conf.d", ""),
    ("/boot/loader/entries", ".conf"),
    ("/boot/efi/loader/entries", ".conf"),
    ("/efi/loader/entries", ".conf"),
    // With what extlinux.conf and syslinux.cfg include.
    ("/boot/extlinux", ".conf"),
    ("/boot/extlinux", ".cfg"),
    ("/boot/syslinux", ".conf"),
    ("/boot/syslinux", ".cfg"),
];

/// Parameters that name a device: one that names none of ours leaves a clone that waits for it, or does not boot.
const DEVICE_PARAMETERS: [&str; 2] = ["root=", "resume="];

/// Plans new texts for all files that refer to golden disks.
///
/// # Errors
/// A file cannot be read.
pub fn plan(files: &dyn Files, facts: &Facts) -> Result<Plan, PostError> {
    let mut plan = Plan::default();
    for path in paths(files) {
        let Some(bytes) = files.read(&path).map_err(PostError::reading(&path))? else {
            continue;
        };
        let Ok(text) = std::str::from_utf8(&bytes) else {
            continue;
        };
        let (new, changes) = rewrite(text, facts);
        plan.warnings.extend(
            dangling(&new, facts)
                .into_iter()
                .map(|what| format!("{path}: {what} names no disk of the clone")),
        );
        if new != text {
            let new = fitting(&path, new, text.len());
            plan.write(path, new, changes);
        }
    }
    Ok(plan)
}

/// The files that hold references, those that are there.
pub(crate) fn paths(files: &dyn Files) -> Vec<String> {
    let mut paths: Vec<String> = FILES.iter().map(|path| (*path).to_owned()).collect();
    for (dir, ending) in DIRECTORIES {
        let names = files.names(dir).into_iter().filter(|name| name.ends_with(ending));
        paths.extend(names.map(|name| format!("{dir}/{name}")));
    }
    // The stub that a signed GRUB reads first: it names the file system with the real grub.cfg.
    for esp in ["/boot/efi", "/efi"] {
        let dirs = efi_directories(files, esp);
        paths.extend(dirs.into_iter().map(|dir| format!("{dir}/grub.cfg")));
    }
    paths.retain(|path| files.exists(path));
    paths
}

/// The text with the clone's devices, and what changed.
fn rewrite(text: &str, facts: &Facts) -> (String, Vec<String>) {
    let mut new = String::with_capacity(text.len() + 64);
    let mut changes = Vec::new();
    for line in text.split_inclusive('\n') {
        if is_comment(line) {
            new.push_str(line);
            continue;
        }
        let replaced = replace_bare_ids(&replace_names(line, facts), facts);
        if replaced != line {
            changes.push(format!("{} becomes {}", line.trim(), replaced.trim()));
        }
        new.push_str(&replaced);
    }
    (new, changes)
}

/// Replaces `UUID=…` and its like, and paths below /dev.
fn replace_names(line: &str, facts: &Facts) -> String {
    let mut new = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = next_name(rest) {
        let (before, from) = rest.split_at(start);
        new.push_str(before);
        let word = &from[..name_len(from)];
        match replacement(word, &facts.devices).or_else(|| disk(word, facts).map(|new| (word.len(), new))) {
            Some((len, name)) => {
                new.push_str(&name);
                rest = &from[len..];
            }
            None => {
                new.push_str(word);
                rest = &from[word.len()..];
            }
        }
    }
    new.push_str(rest);
    new
}

/// Where the next name begins: at a tag or at `/dev/`, not in the middle of a word (`rd.luks.UUID=`, `/sys/dev/`).
fn next_name(text: &str) -> Option<usize> {
    const BEGINNINGS: [&str; 5] = ["UUID=", "PARTUUID=", "LABEL=", "PARTLABEL=", "/dev/"];
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

fn name_len(text: &str) -> usize {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ')' | ';' | '`' | '\\' | '}');
    text.find(ends).unwrap_or(text.len())
}

/// What stands in for the longest beginning of `word` that names a golden device, and that beginning's length. Colons
/// end a name (`cryptdevice=UUID=…:root`) unless they are part of it (`by-path/pci-0000:00:1f.2-ata-1`).
fn replacement(word: &str, devices: &[DeviceMap]) -> Option<(usize, String)> {
    let colons = word.match_indices(':').map(|(at, _)| at);
    let mut ends: Vec<usize> = colons.chain([word.len()]).collect();
    ends.reverse();
    ends.into_iter().find_map(|end| {
        let name = &word[..end];
        let map = matching::find(name, devices)?;
        let new = matching::replacement(name, &map.clone)?;
        let same = matching::same_name(name, &new);
        Some((end, if same { name.to_owned() } else { new }))
    })
}

/// A whole golden drive.
fn disk(word: &str, facts: &Facts) -> Option<String> {
    let drive = word.strip_prefix("/dev/")?;
    let disk = facts.disks.iter().find(|disk| disk.drive == drive)?;
    Some(disk.path.clone())
}

/// UUIDs without a tag: `search --fs-uuid …`, `rd.luks.uuid=luks-…`.
fn replace_bare_ids(line: &str, facts: &Facts) -> String {
    let mut line = line.to_owned();
    for (golden, clone) in facts.devices.iter().flat_map(ids) {
        line = replace_whole(&line, golden, clone);
    }
    line
}

/// The ids by which a golden device and the clone's can be told, where both have one.
fn ids(map: &DeviceMap) -> impl Iterator<Item = (&str, &str)> {
    let (golden, clone) = (&map.golden, &map.clone);
    [(&golden.uuid, &clone.uuid), (&golden.partuuid, &clone.partuuid)]
        .into_iter()
        .filter_map(|(golden, clone)| Some((golden.as_deref()?, clone.as_deref()?)))
        .filter(|(golden, _)| is_long_enough(golden))
}

/// FAT's `1234-ABCD` and a PARTUUID of an MBR are the shortest that nothing else looks like.
fn is_long_enough(id: &str) -> bool {
    id.len() >= 9 && id.contains('-')
}

/// Replaces `id` where it is not part of a longer run of letters and digits, in either letter case.
fn replace_whole(line: &str, id: &str, by: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let id = id.to_ascii_lowercase();
    let mut new = String::with_capacity(line.len());
    let mut done = 0;
    for (at, _) in lower.match_indices(&id) {
        let end = at + id.len();
        let is_part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let inside = is_part(lower[..at].chars().next_back()) || is_part(lower[end..].chars().next());
        if inside || at < done {
            continue;
        }
        new.push_str(&line[done..at]);
        new.push_str(by);
        done = end;
    }
    new.push_str(&line[done..]);
    new
}

pub(crate) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// The device parameters that still name a device which the clone does not have.
fn dangling(text: &str, facts: &Facts) -> Vec<String> {
    let lines = text.lines().filter(|line| !is_comment(line));
    let words =
        lines.flat_map(|line| line.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',')));
    let mut found: Vec<String> = words
        .filter(|word| {
            let lower = word.to_ascii_lowercase();
            let value = DEVICE_PARAMETERS
                .iter()
                .find(|name| lower.starts_with(**name))
                .map(|name| &word[name.len()..]);
            value.is_some_and(|value| names_other_disk(value, facts))
        })
        .map(ToOwned::to_owned)
        .collect();
    found.sort();
    found.dedup();
    found
}

fn names_other_disk(value: &str, facts: &Facts) -> bool {
    match TaggedName::parse(value) {
        Some(name) => !facts.partitions.iter().any(|device| {
            name.is(match name.tag {
                Tag::Uuid => device.uuid.as_deref(),
                Tag::PartUuid => device.partuuid.as_deref(),
                Tag::Label => device.label.as_deref(),
                Tag::PartLabel => device.partlabel.as_deref(),
            })
        }),
        // Mapped devices and the names of network file systems are made by what runs before.
        None => {
            value.starts_with("/dev/")
                && !value.starts_with("/dev/mapper/")
                && !facts.partitions.iter().any(|device| device.path == value)
        }
    }
}

/// Insists that a boot loader's configuration names no file system or partition of the golden node: what its own tool or
/// [`plan`] could not reach would leave a clone that does not boot, or one that mounts another machine's disk.
///
/// # Errors
/// The first that is named outside comments.
pub(crate) fn expect_own(path: &str, text: &str, facts: &Facts) -> Result<(), PostError> {
    if facts.keep_uuids {
        return Ok(());
    }
    let lines = text.lines().filter(|line| !is_comment(line));
    let lines: Vec<&str> = lines.collect();
    for (golden, clone) in facts.devices.iter().flat_map(ids) {
        if golden != clone
            && lines
                .iter()
                .any(|line| replace_whole(line, golden, clone) != *line)
        {
            return Err(PostError::Wrong(format!(
                "{path} still names the golden file system {golden}: look for what writes it (GRUB: /etc/grub.d)"
            )));
        }
    }
    Ok(())
}

/// GRUB's environment block has a fixed length, filled up with `#` (GRUB manual, section "Environment block"); other files
/// have none.
pub(crate) fn fitting(path: &str, mut text: String, len: usize) -> String {
    if !path.ends_with("/grubenv") {
        return text;
    }
    text.truncate(text.trim_end_matches('#').len());
    while text.len() < len {
        text.push('#');
    }
    text
}

#[cfg(test)]
#[path = "references_tests.rs"]
mod tests;
