//! Putting new fields into the old text.

use std::ops::Range;

use ka_disk::fstab::{self, FstabEntry};
use ka_disk::spec::FsType;

use super::{DeviceMap, FstabChange, FstabError, FstabPlan, matching};

/// A field and what it becomes.
struct Edit {
    field: Range<usize>,
    text: Vec<u8>,
}

/// Plans the new text. Pure.
///
/// # Errors
/// [`FstabError::NoName`].
pub fn plan(text: &[u8], devices: &[DeviceMap]) -> Result<FstabPlan, FstabError> {
    let mut edits = Vec::new();
    let mut changes = Vec::new();
    for entry in fstab::parse(text) {
        let Some(map) = matching::find(&entry.spec, devices) else {
            continue;
        };
        let of_line = edit_line(text, &entry, map)?;
        if !of_line.is_empty() {
            changes.push(change(text, &entry, &of_line));
        }
        edits.extend(of_line);
    }
    Ok(FstabPlan {
        text: apply(text, &edits),
        changes,
    })
}

fn edit_line(text: &[u8], entry: &FstabEntry, map: &DeviceMap) -> Result<Vec<Edit>, FstabError> {
    let mut edits = Vec::new();
    let new = matching::replacement(&entry.spec, &map.clone).ok_or_else(|| FstabError::NoName {
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
    let options = map
        .options
        .iter()
        .find(|(mount_point, _)| *mount_point == entry.mount_point);
    if let Some((_, options)) = options.filter(|(_, options)| *options != entry.options) {
        match entry.fields.get(3) {
            Some(field) => edits.push(Edit {
                field: field.clone(),
                text: escape(options),
            }),
            None => edits.push(append_after(entry, options)),
        }
    }
    edits.retain(|edit| text[edit.field.clone()] != edit.text);
    Ok(edits)
}

/// A line of three fields gets its fourth behind the third, which is edited in the same way when it changes.
fn append_after(entry: &FstabEntry, options: &str) -> Edit {
    let end = entry.fields[2].end;
    Edit {
        field: end..end,
        text: [b" ".as_slice(), &escape(options)].concat(),
    }
}

/// Whether the third field lets the type be: it names it, or leaves it to mount(8).
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
    for byte in field.bytes() {
        match byte {
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
