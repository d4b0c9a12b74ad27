//! How much is in use: of a file system, and of a tree.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ka_host::HostError;

/// st_blocks counts these, whatever the file system's block size is (stat(2)).
const STAT_BLOCK_BYTES: u64 = 512;

/// Bytes and inodes in use on the file system at `path`.
pub(super) fn of_file_system(path: &Path) -> Result<(u64, u64), HostError> {
    let stat = rustix::fs::statvfs(path)
        .map_err(|errno| HostError::new(format!("asking for the usage of {}", path.display()), errno))?;
    let bytes = stat.f_blocks.saturating_sub(stat.f_bfree) * stat.f_frsize;
    Ok((bytes, stat.f_files.saturating_sub(stat.f_ffree)))
}

/// Bytes and inodes of a tree, on its own file system only. What cannot be read counts nothing: the sending
/// of the tree will name it.
pub(super) fn of_tree(path: &Path) -> (u64, u64) {
    let Ok(top) = fs::symlink_metadata(path) else {
        return (0, 0);
    };
    let mut total = (top.blocks() * STAT_BLOCK_BYTES, 1);
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.dev() != top.dev() {
                continue;
            }
            // A file with n names is met n times.
            let names = if meta.is_dir() { 1 } else { meta.nlink().max(1) };
            total = (total.0 + meta.blocks() * STAT_BLOCK_BYTES / names, total.1 + 1);
            if meta.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_measured_with_its_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/file"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(dir.path().join("sub/file"), dir.path().join("again")).unwrap();
        let (bytes, inodes) = of_tree(dir.path());
        assert!((1 << 20..2 << 20).contains(&bytes), "{bytes}");
        assert_eq!(inodes, 4);
    }
}
