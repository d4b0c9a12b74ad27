//! Firmware of drivers: searched where the kernel searches, stored uncompressed, as every kernel can read it.

use std::path::PathBuf;

use ka_kmod::decompress;

use crate::root::{self, Root};
use crate::tree::Tree;
use crate::{InitrdError, kernel::Kernel};

/// Largest firmware file, in bytes. Those of network and storage cards have some MiB at most.
const MAX_FIRMWARE_BYTES: u64 = 128 << 20;
/// Suffixes of firmware files: none, and those of `CONFIG_FW_LOADER_COMPRESS_*`.
const SUFFIXES: [&str; 3] = ["", ".xz", ".zst"];

/// Adds a firmware file, uncompressed, because not every kernel can decompress it, and the image as a whole
/// is compressed. If a driver names a pattern, all matching files are added. Returns false if the golden node
/// has no such file.
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

/// Expands a pattern to the names of matching files. A plain name stays as it is.
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
