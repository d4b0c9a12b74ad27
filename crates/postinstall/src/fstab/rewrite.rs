//! Putting new fields into the old text.

use std::ops::Range;
use std::path::Path;

use ka_disk::fs_type::FsType;
use ka_disk::fstab::{self, FstabEntry, TaggedName};

use super::{DeviceMap, FstabChange, FstabError, FstabPlan, matching};
use crate::error::PostError;
use crate::facts::Facts;
use crate::files::Files;
use crate::names::{self, Manner, Meaning, Names, options, spelling, text};

/// A field with its new text.
struct Edit {
    field: Range<usize>,
    text: Vec<u8>,
}

/// The treatment of a line.
enum Fate<'a> {
    /// It names the clone's own, or what every machine has.
    Keep,
    /// Its device became this one.
    Follow(&'a DeviceMap),
    /// The line becomes a comment, because it names a thing that the clone does not have. Holds the warning.
    Out(String),
}

/// Directories whose contents are made at boot.
const MADE_AT_BOOT: [&str; 6] = ["/run", "/tmp", "/proc", "/sys", "/dev", "/var/run"];

/// Plans the new text. Pure.
///
/// # Errors
/// [`FstabError::NoName`]; a file that matters to it cannot be read.
pub fn plan(text: &[u8], files: &dyn Files, facts: &Facts) -> Result<FstabPlan, PostError> {
    let names = names::read(files, facts)?;
    let entries = fstab::parse(text);
    let fates = fates(&entries, files, &names);
    let left_out: Vec<String> = entries
        .iter()
        .zip(&fates)
        .filter(|(entry, fate)| matches!(fate, Fate::Out(_)) && entry.mount_point.starts_with('/'))
        .map(|(entry, _)| entry.mount_point.clone())
        .collect();
    let mut plan = FstabPlan {
        text: Vec::new(),
        changes: Vec::new(),
        warnings: Vec::new(),
    };
    let mut edits = Vec::new();
    for (entry, fate) in entries.iter().zip(&fates) {
        let of_line = match fate {
            Fate::Out(why) => {
                plan.warnings.push(format!("line {}: {why}", entry.line));
                vec![comment_out(text, entry, &mut plan)]
            }
            Fate::Follow(map) => edit_line(text, entry, map, &names, &left_out, &mut plan)?,
            Fate::Keep => edit_options(entry, None, &names, &left_out, &mut plan),
        };
        if !of_line.is_empty() && !matches!(fate, Fate::Out(_)) {
            plan.changes.push(change(text, entry, &of_line));
        }
        edits.extend(of_line);
    }
    plan.text = apply(text, &edits);
    Ok(plan)
}

/// Returns the mount points of lines that [`plan`] has taken out.
pub(crate) fn left_out(text: &[u8]) -> Vec<String> {
    let lines = text::lines(text);
    let fields = lines.iter().filter_map(|line| {
        let rest = line.text().trim_start().strip_prefix(text::LEFT_OUT.trim_end())?;
        fstab::parse(rest.as_bytes()).into_iter().next()
    });
    fields
        .map(|entry| entry.mount_point)
        .filter(|point| point.starts_with('/'))
        .collect()
}

fn fates<'a>(entries: &[FstabEntry], files: &dyn Files, names: &Names<'a>) -> Vec<Fate<'a>> {
    let mut fates: Vec<Fate<'a>> = entries.iter().map(|entry| of_device(entry, names)).collect();
    // Sources that are files need the mounts that stay.
    for index in 0..entries.len() {
        if let Fate::Keep = fates[index]
            && let Some(why) = missing_source(&entries[index], entries, files, names.facts())
        {
            fates[index] = Fate::Out(why);
        }
    }
    fates
}

fn of_device<'a>(entry: &FstabEntry, names: &Names<'a>) -> Fate<'a> {
    let is_bind = entry.has_option("bind") || entry.has_option("rbind");
    let meaning = match names.meaning(&entry.spec) {
        None if is_strange_node(&entry.spec) && !is_bind => Some(Meaning::Gone),
        found => found,
    };
    match meaning {
        None | Some(Meaning::Own) => Fate::Keep,
        Some(Meaning::Clone(_)) if has_strange_subvolume(entry, names) => Fate::Out(format!(
            "{} names a subvolume by its golden number, which is another one in the clone: commented out",
            entry.mount_point
        )),
        Some(Meaning::Clone(map)) => Fate::Follow(map),
        Some(Meaning::Bare(_) | Meaning::Disk(_) | Meaning::Gone) => {
            match by_mount_point(entry, names.facts()) {
                Some(map) => Fate::Follow(map),
                None if waits_for_nothing(entry) => Fate::Keep,
                None => Fate::Out(format!(
                    "{} ({}) is not in the clone: commented out",
                    entry.mount_point, entry.spec
                )),
            }
        }
    }
}

/// Returns true if the line names a subvolume by a number whose name is not known. The name is known only for
/// subvolumes that the golden node had mounted.
fn has_strange_subvolume(entry: &FstabEntry, names: &Names<'_>) -> bool {
    let is_known = names
        .facts()
        .mounts
        .iter()
        .any(|mount| mount.path == entry.mount_point);
    !is_known
        && options::rewrite(&entry.options, names, options::MountContext::default()).has_strange_subvolume
}

/// A node of udev's own making (`SYMLINK+=`): made for a disk that a rule knows.
fn is_strange_node(spec: &str) -> bool {
    spec.starts_with("/dev/") && !fstab::comes_and_goes(spec)
}

/// The clone has a file system for this very mount point, whatever the line calls it.
fn by_mount_point<'a>(entry: &FstabEntry, facts: &'a Facts) -> Option<&'a DeviceMap> {
    let mount = facts
        .mounts
        .iter()
        .find(|mount| mount.path == entry.mount_point)?;
    facts
        .devices
        .iter()
        .find(|map| map.clone.path == mount.device.path)
}

/// A line for a disk that may be plugged in some day: it names that disk and no other, and no boot waits for
/// it.
fn waits_for_nothing(entry: &FstabEntry) -> bool {
    spelling::is_lasting(&entry.spec) && (entry.has_option("noauto") || entry.has_option("nofail"))
}

/// Returns the reason for which a line cannot mount a file or directory: it is not there.
fn missing_source(
    entry: &FstabEntry,
    all: &[FstabEntry],
    files: &dyn Files,
    facts: &Facts,
) -> Option<String> {
    if entry.has_option("noauto") || entry.has_option("nofail") {
        return None;
    }
    let comes_later = |path: &str| {
        let path = Path::new(path);
        let below = |point: &str| point != "/" && path.starts_with(point);
        let foreign = all.iter().filter(|other| {
            other.line != entry.line
                && !facts.mounts.iter().any(|mount| mount.path == other.mount_point)
                && !other.spec.starts_with("/dev/")
                && TaggedName::parse(&other.spec).is_none()
        });
        MADE_AT_BOOT.iter().any(|point| below(point))
            || foreign.into_iter().any(|other| below(&other.mount_point))
    };
    let overlay = ["lowerdir", "upperdir", "workdir"];
    let of_overlay = overlay
        .iter()
        .filter(|_| entry.fstype == "overlay")
        .filter_map(|key| entry.option_value(key));
    let sources = of_overlay.flat_map(|value| value.split(':'));
    let own = (entry.spec.starts_with('/') && !entry.spec.starts_with("//")).then_some(entry.spec.as_str());
    own.into_iter()
        .chain(sources)
        .find(|path| path.starts_with('/') && !comes_later(path) && !files.exists(path))
        .map(|path| format!("{}: {path} is not in the clone: commented out", entry.mount_point))
}

fn comment_out(text: &[u8], entry: &FstabEntry, plan: &mut FstabPlan) -> Edit {
    let start = entry.fields[0].start;
    let end = entry.fields.last().map_or(start, |field| field.end);
    plan.changes.push(FstabChange {
        line: entry.line,
        before: String::from_utf8_lossy(&text[start..end]).into_owned(),
        after: "a comment".to_owned(),
    });
    Edit {
        field: start..start,
        text: text::LEFT_OUT.as_bytes().to_vec(),
    }
}

fn edit_line(
    text: &[u8],
    entry: &FstabEntry,
    map: &DeviceMap,
    names: &Names<'_>,
    left_out: &[String],
    plan: &mut FstabPlan,
) -> Result<Vec<Edit>, FstabError> {
    let mut edits = Vec::new();
    let spec = spelling::plain(&entry.spec);
    let known = names.replacement(&spec, Manner::Usual);
    let new = known.or_else(|| matching::replacement(&spec, &map.clone, names.keeps_kernel_names()));
    let new = new.ok_or_else(|| FstabError::NoName {
        line: entry.line,
        spec: entry.spec.clone(),
    })?;
    if !matching::same_name(&entry.spec, &new) {
        edits.push(Edit {
            field: entry.fields[0].clone(),
            text: escape(&new),
        });
    }
    if let Some(fstype) = map.clone.fstype.as_deref()
        && !names_type(&entry.fstype, fstype)
    {
        edits.push(Edit {
            field: entry.fields[2].clone(),
            text: escape(fstype),
        });
    }
    edits.extend(edit_options(entry, Some(map), names, left_out, plan));
    edits.retain(|edit| text[edit.field.clone()] != edit.text);
    Ok(edits)
}

/// Edits the fourth field: the options of the desc line, without those that name golden devices.
fn edit_options(
    entry: &FstabEntry,
    map: Option<&DeviceMap>,
    names: &Names<'_>,
    left_out: &[String],
    plan: &mut FstabPlan,
) -> Vec<Edit> {
    let ordered = map.and_then(|map| map.options.iter().find(|(point, _)| *point == entry.mount_point));
    let wanted = ordered.map_or(&entry.options, |(_, options)| options);
    let mounts = &names.facts().mounts;
    let mount = mounts.iter().find(|mount| mount.path == entry.mount_point);
    let of = options::MountContext {
        subvol: mount.and_then(|mount| mount.subvol.as_deref()),
        left_out,
        keeps_beside: map.is_none_or(|map| map.clone.fstype.is_none()),
    };
    let new = options::rewrite(wanted, names, of);
    for option in new.dropped {
        plan.warnings.push(format!(
            "line {}: {option} of {} names what the clone does not have: taken out",
            entry.line, entry.mount_point
        ));
    }
    let options = if new.text.is_empty() {
        "defaults".to_owned()
    } else {
        new.text
    };
    if options == entry.options {
        return Vec::new();
    }
    match entry.fields.get(3) {
        Some(field) => vec![Edit {
            field: field.clone(),
            text: escape(&options),
        }],
        None => vec![append_after(entry, &options)],
    }
}

/// A line of three fields gets its fourth behind the third, which is edited in the same way when it changes.
fn append_after(entry: &FstabEntry, options: &str) -> Edit {
    let end = entry.fields[2].end;
    Edit {
        field: end..end,
        text: [b" ".as_slice(), &escape(options)].concat(),
    }
}

/// True if the third field accepts the type: it names it, or leaves it to mount(8).
fn names_type(field: &str, fstype: &str) -> bool {
    let same = |name: &str| {
        name == fstype
            || name
                .parse::<FsType>()
                .ok()
                .is_some_and(|found| found.name() == fstype)
    };
    field == "auto" || field.split(',').any(same)
}

fn change(text: &[u8], entry: &FstabEntry, edits: &[Edit]) -> FstabChange {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let before: Vec<String> = edits
        .iter()
        .map(|edit| lossy(&text[edit.field.clone()]))
        .collect();
    let after: Vec<String> = edits.iter().map(|edit| lossy(&edit.text)).collect();
    FstabChange {
        line: entry.line,
        before: before.join(" ").trim().to_owned(),
        after: after.join(" "),
    }
}

/// The edits are in the order of the text, and do not overlap.
fn apply(text: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut new = Vec::with_capacity(text.len() + 64);
    let mut at = 0;
    for edit in edits {
        new.extend_from_slice(&text[at..edit.field.start]);
        new.extend_from_slice(&edit.text);
        at = edit.field.end;
    }
    new.extend_from_slice(&text[at..]);
    new
}

/// White space and backslashes in octal, as getmntent(3) reads them; `#` too, lest a field begin a comment.
fn escape(field: &str) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(field.len());
    for (at, byte) in field.bytes().enumerate() {
        let next = field.as_bytes().get(at + 1);
        match byte {
            // `\x2d` is no escape of fstab's, and stays as the reader of the field wants it.
            b'\\' if next.is_some_and(|next| *next == b'x') => escaped.push(byte),
            b' ' | b'\t' | b'\n' | b'\r' | b'\\' | b'#' => {
                escaped.extend_from_slice(format!("\\{byte:03o}").as_bytes())
            }
            _ => escaped.push(byte),
        }
    }
    escaped
}

#[cfg(test)]
#[path = "rewrite_tests.rs"]
mod tests;
