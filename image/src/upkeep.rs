//! `list`, `show`, `verify`, `remove`, `prune` and `copy`.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use ka_store::Version;
use serde_json::json;

use crate::args::Options;
use crate::{open, report};

/// Lists all versions.
pub(crate) fn list(options: &Options) -> anyhow::Result<String> {
    let versions = open::existing(options)?.versions()?;
    if options.json {
        let lines = versions
            .iter()
            .map(|version| report::line(&report::json(version)));
        return Ok(lines.collect());
    }
    Ok(report::table(&versions))
}

/// Shows one version.
pub(crate) fn show(options: &Options, name: &str) -> anyhow::Result<String> {
    let version = open::existing(options)?.version(name)?;
    if options.json {
        return Ok(report::line(&report::json(&version)));
    }
    Ok(report::details(&version))
}

/// Reads everything that versions need; the second value says whether all is good.
pub(crate) fn verify(options: &Options, name: Option<&str>) -> anyhow::Result<(String, bool)> {
    let store = open::existing(options)?;
    let versions = match name {
        Some(name) => vec![store.version(name)?],
        None => store.versions()?,
    };
    let verified = store.verify(&versions)?;
    let good = verified.faults.is_empty();
    if options.json {
        let faults: Vec<_> = verified
            .faults
            .iter()
            .map(|(what, versions)| json!({"what": what, "versions": versions}))
            .collect();
        let chunks = json!({"chunks": verified.chunks, "bytes": verified.bytes, "faults": faults});
        return Ok((report::line(&chunks), good));
    }
    let mut text = String::new();
    for (what, versions) in &verified.faults {
        let versions: Vec<_> = versions.iter().map(String::as_str).collect();
        text += &format!("{what}; it is needed by {}\n", versions.join(", "));
    }
    text += &format!(
        "{} versions, {} chunks, {}: {}\n",
        versions.len(),
        verified.chunks,
        report::size(verified.bytes),
        if good { "all good" } else { "DAMAGED" }
    );
    Ok((text, good))
}

/// Removes one version, which must be named with its number.
pub(crate) fn remove(options: &Options, name: &str) -> anyhow::Result<String> {
    ensure!(
        name.contains('@'),
        "name the version too, as in {name}@1: see ka-image list"
    );
    let store = open::existing(options)?;
    let version = store.version(name)?;
    store.remove(&version)?;
    if options.json {
        return Ok(report::line(&report::json(&version)));
    }
    Ok(format!("removed {}\n", report::name(&version)))
}

/// Removes old versions on request, and then marks and deletes.
pub(crate) fn prune(
    options: &Options,
    keep: Option<NonZeroUsize>,
    grace_hours: u32,
) -> anyhow::Result<String> {
    let store = open::existing(options)?;
    let mut removed = Vec::new();
    if let Some(keep) = keep {
        let versions = store.versions()?;
        for images in versions.chunk_by(|one, other| one.image() == other.image()) {
            removed.extend_from_slice(
                images
                    .get(..images.len().saturating_sub(keep.get()))
                    .unwrap_or(&[]),
            );
        }
        removed.iter().try_for_each(|version| store.remove(version))?;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let pruned = store.prune(now, u64::from(grace_hours) * 3600)?;
    let names: Vec<_> = removed.iter().map(report::name).collect();
    if options.json {
        return Ok(report::line(&json!({
            "removed": names,
            "marked": pruned.marked,
            "waiting": pruned.waiting,
            "deleted": pruned.deleted,
            "freed": pruned.freed,
        })));
    }
    let removed: String = names.iter().map(|name| format!("removed {name}\n")).collect();
    Ok(format!(
        "{removed}{} packs marked, {} wait for a later prune, {} deleted, {} freed\n",
        pruned.marked,
        pruned.waiting,
        pruned.deleted,
        report::size(pruned.freed)
    ))
}

/// Copies a version into another store.
pub(crate) fn copy(options: &Options, name: &str, into: &Path) -> anyhow::Result<String> {
    let from = open::existing(options)?;
    let version = from.version(name)?;
    let copy: Version = from.copy(&version, &open::to_save(options, into)?)?;
    if options.json {
        return Ok(report::line(&report::json(&copy)));
    }
    Ok(format!(
        "copied {} as {}\n",
        report::name(&version),
        report::name(&copy)
    ))
}
