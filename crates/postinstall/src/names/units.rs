//! systemd's units (systemd.unit(5)): the devices that they mount, swap on and wait for, and their names,
//! which are those of devices in systemd's escapes.
//!
//! A `.mount`, `.swap` or `.automount` unit for a thing that the clone does not have is taken out. Its file
//! becomes a comment under a name that systemd does not read, and its links are removed. Dependencies on
//! devices that are gone are taken out of their lines.

use std::collections::BTreeSet;
use std::path::Path;

use super::text::{self, LEFT_OUT, Rewritten, is_comment};
use super::unit_names::{self, path_of};
use super::words::{self, WordNotes};
use super::{Manner, Meaning, Names, options};
use crate::error::PostError;
use crate::files::{Files, Kind};
use crate::plan::Plan;

/// The directories of this system's units, the administrator's first.
pub(crate) const PLACES: [&str; 4] = [
    ADMIN,
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const ADMIN: &str = "/etc/systemd/system";
const UNITS: [&str; 10] = [
    ".mount",
    ".swap",
    ".automount",
    ".service",
    ".target",
    ".device",
    ".path",
    ".timer",
    ".socket",
    ".slice",
];
/// Settings whose words are units.
const DEPENDENCIES: [&str; 19] = [
    "Requires",
    "Requisite",
    "Wants",
    "BindsTo",
    "PartOf",
    "Upholds",
    "Conflicts",
    "Before",
    "After",
    "OnFailure",
    "OnSuccess",
    "PropagatesReloadTo",
    "ReloadPropagatedFrom",
    "PropagatesStopTo",
    "StopPropagatedFrom",
    "JoinsNamespaceOf",
    "WantedBy",
    "RequiredBy",
    "UpheldBy",
];
const LINKS: [&str; 3] = [".wants", ".requires", ".upholds"];

/// Plans all units. `left_out`: mount points that fstab does not mount any more.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn plan(
    plan: &mut Plan,
    files: &dyn Files,
    names: &Names<'_>,
    left_out: &[String],
) -> Result<(), PostError> {
    let places: Vec<&str> = PLACES
        .into_iter()
        .filter(|place| !(place.starts_with("/lib/") && files.kind("/lib") == Some(Kind::Link)))
        .collect();
    let mut out = RemovedUnits {
        units: BTreeSet::new(),
        left_out: left_out.to_vec(),
    };
    for place in &places {
        out.find(place, files, names)?;
    }
    for place in places {
        for name in files.names(place) {
            entry(plan, files, names, &out, place, &name)?;
        }
    }
    Ok(())
}

/// Units that the clone cannot have.
struct RemovedUnits {
    units: BTreeSet<String>,
    left_out: Vec<String>,
}

impl RemovedUnits {
    fn find(&mut self, place: &str, files: &dyn Files, names: &Names<'_>) -> Result<(), PostError> {
        for name in files.names(place) {
            let path = format!("{place}/{name}");
            let is_mount = [".mount", ".swap"].iter().any(|end| name.ends_with(end));
            if !is_mount || files.kind(&path) != Some(Kind::File) {
                continue;
            }
            let bytes = files
                .read(&path)
                .map_err(PostError::reading(&path))?
                .unwrap_or_default();
            let Some(what) = setting(&bytes, "What") else {
                continue;
            };
            let is_gone = match names.meaning(&what) {
                Some(Meaning::Gone | Meaning::Bare(_) | Meaning::Disk(_)) => true,
                Some(_) => false,
                None => {
                    what.starts_with("/dev/")
                        && name.ends_with(".swap")
                        && unit_names::word(&name, names, &[]).is_none()
                }
            };
            if is_gone {
                let stem = name.trim_end_matches(".mount");
                self.left_out
                    .extend(setting(&bytes, "Where").filter(|_| name.ends_with(".mount")));
                self.units.insert(format!("{stem}.automount"));
                self.units.insert(name);
            }
        }
        Ok(())
    }
}

/// Returns the last value of a setting.
fn setting(bytes: &[u8], key: &str) -> Option<String> {
    let lines = text::lines(bytes);
    let mut values = lines.iter().rev().filter_map(|line| {
        let (name, value) = line.text().split_once('=')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    });
    values.next()
}

fn entry(
    plan: &mut Plan,
    files: &dyn Files,
    names: &Names<'_>,
    out: &RemovedUnits,
    place: &str,
    name: &str,
) -> Result<(), PostError> {
    let path = format!("{place}/{name}");
    let is_unit = |name: &str| UNITS.iter().any(|end| name.ends_with(end));
    match files.kind(&path) {
        Some(Kind::File) if out.units.contains(name) => take_out(plan, files, place, name),
        Some(Kind::File) if is_unit(name) => {
            rewrite_file(plan, files, names, out, &path, &renamed(place, name, names))
        }
        Some(Kind::Dir) => {
            let ends = LINKS.iter().find(|end| name.ends_with(**end)).copied();
            match ends.or_else(|| name.ends_with(".d").then_some(".d")) {
                Some(".d") => drop_ins(plan, files, names, out, place, name),
                Some(end) => {
                    links(plan, files, names, out, (place, name, end));
                    Ok(())
                }
                None => Ok(()),
            }
        }
        Some(Kind::Link)
            if is_unit(name)
                && (out.units.contains(name) || unit_names::word(name, names, &[]).is_none()) =>
        {
            plan.remove(path, GONE);
            Ok(())
        }
        _ => Ok(()),
    }
}

const GONE: &str = "it is for a disk or volume that the clone does not have";

/// Returns the name of a unit's file once its device has another name: `dev-disk-by\x2duuid-….swap`.
fn renamed(place: &str, name: &str, names: &Names<'_>) -> String {
    let new = unit_names::word(name, names, &[]).unwrap_or_else(|| name.to_owned());
    format!("{place}/{new}")
}

fn take_out(plan: &mut Plan, files: &dyn Files, place: &str, name: &str) -> Result<(), PostError> {
    let path = format!("{place}/{name}");
    plan.warnings.push(format!(
        "{path} is for a disk or volume that the clone does not have: taken out"
    ));
    if place == ADMIN {
        let bytes = files
            .read(&path)
            .map_err(PostError::reading(&path))?
            .unwrap_or_default();
        let comment: Vec<u8> = text::lines(&bytes)
            .iter()
            .flat_map(|line| [LEFT_OUT.as_bytes().to_vec(), line.bytes_of(line.text())].concat())
            .collect();
        plan.write(
            format!("{path}.ka-left-out"),
            comment,
            vec!["keeps the unit's text".to_owned()],
        );
        plan.remove(path, GONE);
    } else {
        plan.link(format!("{ADMIN}/{name}"), "/dev/null");
    }
    Ok(())
}

fn rewrite_file(
    plan: &mut Plan,
    files: &dyn Files,
    names: &Names<'_>,
    out: &RemovedUnits,
    path: &str,
    new_path: &str,
) -> Result<(), PostError> {
    let bytes = files
        .read(path)
        .map_err(PostError::reading(path))?
        .unwrap_or_default();
    let new = rewrite(&bytes, names, out, path);
    plan.warnings
        .extend(new.warnings.iter().map(|warning| format!("{path}: {warning}")));
    if new_path != path {
        let mut changes = new.changes;
        changes.push(format!("was {path}"));
        plan.write(new_path, new.bytes, changes);
        plan.remove(path, "its device has another name in the clone");
    } else if new.bytes != bytes {
        plan.write(path, new.bytes, new.changes);
    }
    Ok(())
}

fn rewrite(bytes: &[u8], names: &Names<'_>, out: &RemovedUnits, path: &str) -> Rewritten {
    let mounts = [".mount", ".swap"].iter().any(|end| path.contains(end));
    let left_out: &[String] = if mounts { &out.left_out } else { &[] };
    let point = setting(bytes, "Where");
    let mut new = Rewritten::default();
    let mut continued: Option<String> = None;
    for line in text::lines(bytes) {
        let text = line.text();
        if is_comment(text) || text.trim_start().starts_with(';') {
            new.push(&line, text);
            continue;
        }
        let key = match (&continued, text.split_once('=')) {
            (Some(key), _) => key.clone(),
            (None, Some((key, _))) => key.trim().to_owned(),
            (None, None) => String::new(),
        };
        let value_at = if continued.is_some() {
            0
        } else {
            text.find('=').map_or(0, |at| at + 1)
        };
        let was_continued = continued.is_some();
        continued = text.trim_end().ends_with('\\').then(|| key.clone());
        let (head, value) = text.split_at(value_at);
        let made = match key.as_str() {
            key if DEPENDENCIES.contains(&key) => dependencies(value, names, left_out, &mut new.warnings),
            "What" => Some(replaced(value, |name| path_of(name, names))),
            "Options" => Some(mount_options(
                value,
                names,
                left_out,
                point.as_deref(),
                &mut new.warnings,
            )),
            _ => {
                let mut said = WordNotes::default();
                let made = words::rewrite_names(value, names, Manner::Path, &mut said);
                new.warnings.extend(said.warnings);
                Some(made)
            }
        };
        match made {
            Some(made) => new.push(&line, &format!("{head}{made}")),
            // An empty list would reset what stands in other files.
            None if !was_continued && continued.is_none() => new.push(&line, &format!("{LEFT_OUT}{text}")),
            None => new.push(
                &line,
                &format!("{head}{}", if continued.is_some() { "\\\n" } else { "\n" }),
            ),
        }
    }
    new
}

/// Returns the words that are left; `None` when none is.
fn dependencies(
    value: &str,
    names: &Names<'_>,
    left_out: &[String],
    warnings: &mut Vec<String>,
) -> Option<String> {
    let mut new = value.to_owned();
    let mut is_shorter = false;
    for unit in value.split_whitespace().filter(|unit| *unit != "\\") {
        match unit_names::word(unit, names, left_out) {
            Some(by) if by == unit => {}
            Some(by) => new = new.replacen(unit, &by, 1),
            None => {
                warnings.push(format!(
                    "{unit} is of a disk or volume that the clone does not have: taken out"
                ));
                new = new.replacen(unit, "", 1);
                is_shorter = true;
            }
        }
    }
    let is_empty = new.trim().trim_end_matches('\\').trim().is_empty();
    (!(is_shorter && is_empty)).then_some(new)
}

fn mount_options(
    value: &str,
    names: &Names<'_>,
    left_out: &[String],
    point: Option<&str>,
    warnings: &mut Vec<String>,
) -> String {
    replaced(value, |text| {
        let mount = names
            .facts()
            .mounts
            .iter()
            .find(|mount| Some(mount.path.as_str()) == point);
        let of = options::MountContext {
            subvol: mount.and_then(|mount| mount.subvol.as_deref()),
            left_out,
            keeps_beside: mount.is_none(),
        };
        let new = options::rewrite(text, names, of);
        let told = new
            .dropped
            .iter()
            .map(|option| format!("{option} names what the clone does not have: taken out"));
        warnings.extend(told);
        Some(new.text)
    })
}

/// Returns the value without the white space around it, replaced in its place.
fn replaced(value: &str, by: impl FnOnce(&str) -> Option<String>) -> String {
    let trimmed = value.trim();
    match by(trimmed).filter(|_| !trimmed.is_empty()) {
        Some(new) => value.replacen(trimmed, &new, 1),
        None => value.to_owned(),
    }
}

fn drop_ins(
    plan: &mut Plan,
    files: &dyn Files,
    names: &Names<'_>,
    out: &RemovedUnits,
    place: &str,
    name: &str,
) -> Result<(), PostError> {
    let unit = name.trim_end_matches(".d");
    let new_unit = if out.units.contains(unit) {
        None
    } else {
        unit_names::word(unit, names, &[])
    };
    for file in files.names(&format!("{place}/{name}")) {
        let path = format!("{place}/{name}/{file}");
        if files.kind(&path) != Some(Kind::File) || !file.ends_with(".conf") {
            continue;
        }
        match &new_unit {
            Some(new) => rewrite_file(plan, files, names, out, &path, &format!("{place}/{new}.d/{file}"))?,
            None => plan.remove(path, GONE),
        }
    }
    Ok(())
}

/// Links in `X.wants`: their names are those of units, and so is X.
fn links(
    plan: &mut Plan,
    files: &dyn Files,
    names: &Names<'_>,
    out: &RemovedUnits,
    (place, name, end): (&str, &str, &str),
) {
    let unit = name.trim_end_matches(end);
    let new_dir = unit_names::word(unit, names, &[]).filter(|_| !out.units.contains(unit));
    for link in files.names(&format!("{place}/{name}")) {
        let path = format!("{place}/{name}/{link}");
        if files.kind(&path) != Some(Kind::Link) {
            continue;
        }
        let new_link = unit_names::word(&link, names, &[]).filter(|_| !out.units.contains(&link));
        match (&new_dir, new_link) {
            (Some(dir), Some(new)) if *dir == unit && new == link => {}
            (Some(dir), Some(new)) => {
                let home = PLACES
                    .into_iter()
                    .find(|home| files.kind(&format!("{home}/{link}")) == Some(Kind::File));
                let target =
                    template(&new, files).unwrap_or_else(|| format!("{}/{new}", home.unwrap_or(ADMIN)));
                plan.remove(path, "its device has another name in the clone");
                plan.link(format!("{place}/{dir}{end}/{new}"), &target);
            }
            _ => plan.remove(path, GONE),
        }
    }
}

/// Returns the file that an instance of a template is made from.
fn template(unit: &str, files: &dyn Files) -> Option<String> {
    let (stem, rest) = unit.split_once('@')?;
    let suffix = Path::new(rest).extension()?.to_str()?;
    let name = format!("{stem}@.{suffix}");
    PLACES
        .into_iter()
        .map(|place| format!("{place}/{name}"))
        .find(|path| files.exists(path))
}
