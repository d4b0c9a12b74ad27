//! Firmware that drivers ask for: looked for where the kernel looks, stored as the kernel reads it at once.

use std::path::PathBuf;

use ka_kmod::decompress;

use crate::root::{self, Root};
use crate::tree::Tree;
use crate::{InitrdError, kernel::Kernel};

/// The largest firmware file of a network or storage card has some MiB.
const MAX_FIRMWARE_BYTES: u64 = 128 << 20;
/// `CONFIG_FW_LOADER_COMPRESS_*`, and plain.
const SUFFIXES: [&str; 3] = ["", ".xz", ".zst"];

/// Adds a firmware file, uncompressed: not every kernel can read it otherwise, and the image is compressed as a
/// whole. False when the golden node has none. Some drivers name a pattern: all files that match are added.
pub(crate) fn add(tree: &mut Tree, root: &Root, kernel: &Kernel, name: &str) -> Result<bool, InitrdError> {
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Ok(false);
    }
    let mut found = false;
    for name in expand(root, kernel, name) {
        let place = format!("usr/lib/firmware/{name}");
        if tree.has(&place) {
            found = true;
        } else if let Some(path) = find(root, kernel, &name) {
            let plain = decompress(&root::read(&path)?, MAX_FIRMWARE_BYTES)
                .map_err(|err| InitrdError::damaged(&path, format!("cannot be decompressed: {err}")))?;
            if plain.len() as u64 > MAX_FIRMWARE_BYTES {
                let what = format!("larger than {MAX_FIRMWARE_BYTES} bytes");
                return Err(InitrdError::damaged(&path, what));
            }
            tree.file(&place, 0o644, plain)?;
            found = true;
        }
    }
    Ok(found)
}

/// The kernel's search path (Documentation/driver-api/firmware/fw_search_path.rst).
fn dirs(kernel: &Kernel) -> [String; 4] {
    let base = "lib/firmware";
    [
        format!("{base}/updates/{}", kernel.release),
        format!("{base}/updates"),
        format!("{base}/{}", kernel.release),
        base.to_owned(),
    ]
}

fn find(root: &Root, kernel: &Kernel, name: &str) -> Option<PathBuf> {
    let dirs = dirs(kernel);
    let places = dirs
        .iter()
        .flat_map(|dir| SUFFIXES.map(|suffix| format!("{dir}/{name}{suffix}")));
    let mut found = places.filter_map(|place| root.find(place));
    found.find(|path| path.is_file())
}

/// The names that a pattern stands for; a plain name stands for itself.
fn expand(root: &Root, kernel: &Kernel, name: &str) -> Vec<String> {
    if !name.contains(['*', '?', '[']) {
        return vec![name.to_owned()];
    }
    let (dir, pattern) = name
        .rsplit_once('/')
        .map_or(("", name), |(dir, pattern)| (dir, pattern));
    let mut names = Vec::new();
    for above in dirs(kernel) {
        for file in root.names(format!("{above}/{dir}")) {
            let plain = SUFFIXES[1..]
                .iter()
                .find_map(|suffix| file.strip_suffix(suffix))
                .unwrap_or(&file);
            if ka_kmod::matches(pattern, plain) {
                names.push(format!("{dir}/{plain}").trim_start_matches('/').to_owned());
            }
        }
    }
    names.sort();
    names.dedup();
    names
}
