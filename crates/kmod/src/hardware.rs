//! Modaliases of this machine's hardware.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

/// Largest modalias, in bytes. It is one line, and sysfs returns at most a page.
const MAX_MODALIAS_BYTES: u64 = 4096;
/// Largest depth of directories. Devices are below buses and bridges; real trees have some ten levels.
const MAX_DEPTH: usize = 40;

/// Returns every modalias below `sys` (`/sys`, or a tree made for a test), sorted, each once. Links are not
/// followed, because sysfs has each device once below `devices/`. Unreadable entries are skipped, because a
/// device may disappear at any time.
#[must_use]
pub fn hardware_modaliases(sys: &Path) -> Vec<String> {
    let mut found = BTreeSet::new();
    // All devices are below `devices`. The rest of sysfs is large and only links to them.
    let devices = sys.join("devices");
    let start = if devices.is_dir() { devices } else { sys.to_owned() };
    let mut stack = vec![(start, 0)];
    while let Some((dir, depth)) = stack.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && depth < MAX_DEPTH {
                stack.push((entry.path(), depth + 1));
            } else if kind.is_file() && entry.file_name() == "modalias" {
                found.extend(modalias(&entry.path()));
            }
        }
    }
    found.into_iter().collect()
}

fn modalias(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path)
        .ok()?
        .take(MAX_MODALIAS_BYTES)
        .read_to_string(&mut text)
        .ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
